"""Throw-away schemas of a PostgreSQL server, where one answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

DSN = os.environ.get("STILLHOUSE_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test")


@pytest.fixture(scope="session")
def postgres_dsn() -> str:
    """Address of a server that answers."""
    psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    try:
        psycopg.connect(DSN, connect_timeout=3).close()
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server answers; set STILLHOUSE_POSTGRES_DSN")
    return DSN


@pytest.fixture
def new_schema(postgres_dsn: str) -> Iterator[Callable[[], str]]:
    """Makes addresses of schemas that do not exist yet; what was made is dropped in the end."""
    import psycopg

    names: list[str] = []

    def make() -> str:
        names.append(f"stillhouse_{uuid4().hex}")
        return f"{postgres_dsn}{'&' if '?' in postgres_dsn else '?'}schema={names[-1]}"

    yield make
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'.encode())

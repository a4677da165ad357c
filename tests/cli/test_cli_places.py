"""The books may be a file or a PostgreSQL database: every verb takes the place of either."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from stillhouse import wiring
from stillhouse.store.opening import beside

SERVER = os.environ.get("STILLHOUSE_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test")
PASSWORD = "a-secret"

Run = Callable[..., Any]


@pytest.fixture
def dsn() -> Iterator[str]:
    """The address of a new schema, with a password in it that the server does not ask for."""
    psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server answers; set STILLHOUSE_POSTGRES_DSN")
    schema = f"stillhouse_{uuid4().hex}"
    user, sign, rest = SERVER.rpartition("@")
    named = SERVER if ":" in user.partition("://")[2] else f"{user}:{PASSWORD}{sign}{rest}"
    yield f"{named}{'&' if '?' in named else '?'}schema={schema}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


def a_log(folder: Path) -> Path:
    rows = [
        {
            "id": f"call-{number}",
            "created": 1_790_000_000 + number,
            "request": {
                "model": "gpt-4o-mini",
                "messages": [
                    {"role": "system", "content": "Answer with a colour."},
                    {"role": "user", "content": f"What colour has number {number}?"},
                ],
            },
            "response": {
                "model": "gpt-4o-mini",
                "choices": [{"message": {"content": ("red", "blue")[number % 2]}}],
                "usage": {"prompt_tokens": 20, "completion_tokens": 1},
            },
        }
        for number in range(60)
    ]
    path = folder / "calls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_the_first_verbs_do_the_same_in_postgresql_and_name_no_password(
    run: Run, dsn: str, tmp_path: Path
) -> None:
    log = a_log(tmp_path)
    seen = []
    for place in (dsn, "books.db"):
        done = run("--db", place, "import", str(log), "--json")
        assert (done.code, done.json["new"]) == (0, 60)
        steps = [
            run("--db", place, *verb, "--json")
            for verb in (("ledger",), ("ledger", "verify"), ("tasks",))
        ]
        assert [step.code for step in steps] == [0, 0, 0]
        places = {step.json["database"] for step in (done, *steps)}
        assert len(places) == 1
        seen.append([{**step.json, "database": ""} for step in steps])
        texts = [
            *(step.out + step.err for step in (done, *steps)),
            run("--db", place, "ledger").out,
        ]
        assert not any(PASSWORD in text for text in texts)
    assert seen[0] == seen[1]


def test_the_place_may_stand_in_the_environment(
    run: Run, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_DB", dsn)
    run("import", str(a_log(tmp_path)))
    assert run("ledger", "--json").json["total"]["requests"] == 60
    assert not (tmp_path / "stillhouse.db").exists()


def test_vectors_of_texts_lie_in_one_file_however_the_books_are_named(dsn: str) -> None:
    with wiring.open_store(dsn) as store:
        assert PASSWORD not in store.place
        assert beside(store.place) == beside(dsn)


def test_a_place_without_books_is_said_without_a_password(run: Run, dsn: str) -> None:
    said = run("--db", dsn, "ledger")
    assert said.code == 2
    assert "there are no books at postgresql://" in said.err
    assert PASSWORD not in said.err
    unread = run("--db", f"postgresql://me:{PASSWORD}@[bad", "ledger")
    assert "cannot be read" in unread.err
    assert PASSWORD not in unread.err


def test_a_folder_is_no_place_for_books(run: Run, tmp_path: Path) -> None:
    said = run("--db", str(tmp_path), "import", str(a_log(tmp_path)))
    assert said.code == 2
    assert "cannot be opened" in said.err

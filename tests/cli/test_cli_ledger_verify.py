from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""

TABLE = """prompt,answer,model,input_tokens,output_tokens,time
a,x,acme-1,1000000,0,2026-05-01
b,x,acme-1,1000000,7,2026-05-01
c,x,nobody,5,5,2026-05-03
"""
PRICES = "[{model: acme-1, usd_per_mtok: {input: 2}}]"


@pytest.fixture
def books(run: Run, tmp_path: Path) -> Run:
    (tmp_path / "calls.csv").write_text(TABLE, "utf-8")
    (tmp_path / "prices.yaml").write_text(PRICES, "utf-8")
    assert run("import", "calls.csv", "--prices", "prices.yaml").code == 0
    return run


def edit(tmp_path: Path, table: str, change: str) -> None:
    with closing(sqlite3.connect(tmp_path / "stillhouse.db")) as file, file:
        file.execute(f"DROP TRIGGER {table}_no_update")
        file.execute(f"UPDATE {table} SET {change}")


def test_books_that_hold_are_said_to_and_the_code_is_zero(books: Run) -> None:
    said = books("ledger", "verify")
    assert said.code == 0
    assert said.out == (
        "3 attempts with 5 charges redone, 0 from the provider's own usage object: the books hold\n"
    )
    found = books("ledger", "verify", "--json")
    assert found.code == 0
    assert (found.json["attempts"], found.json["n_differences"]) == (3, 0)


def test_an_edited_charge_is_listed_and_the_code_is_one(books: Run, tmp_path: Path) -> None:
    edit(tmp_path, "charges", "billed_pico = billed_pico + 1")
    said = books("ledger", "verify")
    assert said.code == 1
    assert said.out.count("has other charges than its usage and its price give") == 2
    assert "stored   1000000 input_tokens 2.000000000001 USD" in said.out
    assert "derived  1000000 input_tokens 2.000000000000 USD" in said.out
    assert said.out.endswith(": 2 differences\n")
    found = books("ledger", "verify", "--json")
    assert found.code == 1
    assert found.json["n_differences"] == len(found.json["differences"]) == 2
    assert set(found.json["differences"][0]) == {"attempt_id", "what", "stored", "derived"}


def test_many_differences_are_counted_and_the_first_are_shown(run: Run, tmp_path: Path) -> None:
    rows = [f"q{n},x,acme-1,1000,0,2026-05-01\n" for n in range(70)]
    (tmp_path / "calls.csv").write_text("".join([TABLE, *rows]), "utf-8")
    (tmp_path / "prices.yaml").write_text(PRICES, "utf-8")
    run("import", "calls.csv", "--prices", "prices.yaml")
    edit(tmp_path, "charges", "quantity = quantity + 1")
    said = run("ledger", "verify")
    assert said.out.count("has other charges") == 50
    assert "... and 23 more; --json lists them all" in said.out
    assert len(run("ledger", "verify", "--json").json["differences"]) == 73


def test_without_a_database_there_is_one_sentence(run: Run) -> None:
    said = run("ledger", "verify")
    assert (said.code, said.out) == (2, "")
    assert "there is no database" in said.err


@pytest.mark.parametrize("by", ["key", "upstream", "fate"])
def test_spend_can_be_cut_by_what_only_the_endpoint_knows(books: Run, by: str) -> None:
    said = books("ledger", "--by", by)
    assert said.code == 0
    assert "(not said)" in said.out

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse import wiring

Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""


HEADER = "prompt,answer,model,input_tokens,output_tokens,cost,time,team,task\n"
TABLE = f"""{HEADER}a,x,acme-1,1000000,0,2,2026-05-01,app,triage
b,x,acme-1,1000000,0,1.5,2026-05-01,app,
c,x,acme-2,0,1000000,,2026-05-02,web,
d,x,[b]odd[/b],5,5,0.25,2026-05-03,web,
"""
PRICES = "[{model: acme-1, usd_per_mtok: {input: 2}}, {model: acme-2, usd_per_mtok: {output: 5}}]"


@pytest.fixture
def books(run: Run, tmp_path: Path) -> Run:
    (tmp_path / "calls.csv").write_text(TABLE, "utf-8")
    (tmp_path / "prices.yaml").write_text(PRICES, "utf-8")
    assert run("import", "calls.csv", "--prices", "prices.yaml").code == 0
    return run


def lines(out: str) -> list[list[str]]:
    """The lines of the tables, cut into cells."""
    return [
        [cell for cell in line.replace("\u202f", "").split("  ") if cell.strip()]
        for line in out.splitlines()
    ]


def test_the_overview_lays_computed_cost_beside_the_reported_one(books: Run) -> None:
    said = books("ledger")
    assert said.code == 0
    rows = {line[0]: [cell.strip() for cell in line[1:]] for line in lines(said.out) if line}
    assert rows["acme-2"] == ["1", "$5.00", "–", "–", "$5,000.00", "0%", "derived"]
    assert rows["acme-1"] == ["2", "$4.00", "$3.50", "$0.50", "$2,000.00", "0%", "derived"]
    assert rows["[b]odd[/b]"] == ["1", "unpriced", "$0.25", "–", "–", "100%", "reported"]
    assert rows["Total"] == ["4", "$9.00", "$3.75", "$0.50", "$3,000.00", "25.0%", "derived"]
    assert rows["2026-05-01"][:2] == ["2", "$4.00"]
    assert rows["web"][:2] == ["2", "$5.00"]
    assert rows["triage"][:2] == ["1", "$2.00"]
    assert rows["(no task)"][0] == "3"
    assert "No price is known for requests to [b]odd[/b];" in said.out
    assert said.out.count("Total") == 1


def test_a_grouping_that_nobody_named_is_one_line(books: Run) -> None:
    assert "No request names its customer" not in books("ledger").out
    said = books("ledger", "--by", "customer")
    assert [line[0] for line in lines(said.out) if line][2:] == ["(not said)", "Total"]


def test_one_grouping_can_be_had_in_full(run: Run, tmp_path: Path) -> None:
    days = [f"q{n},x,acme-1,1,1,,2026-05-{n + 1:02},,\n" for n in range(20)]
    (tmp_path / "calls.csv").write_text("".join([HEADER, *days]), "utf-8")
    run("import", "calls.csv")
    overview, full = run("ledger").out, run("ledger", "--by", "day").out
    assert "12 earlier days" in overview
    assert overview.index("12 earlier days") < overview.index("2026-05-13")
    assert [line[0] for line in lines(full) if line][2:-1] == [
        f"2026-05-{n + 1:02}" for n in range(20)
    ]
    assert "No request names its team" in overview


def test_json_has_every_row_of_every_usual_grouping(books: Run) -> None:
    found = books("ledger", "--json").json
    assert list(found["by"]) == ["model", "task", "team", "day"]
    assert [row["day"] for row in found["by"]["day"]] == ["2026-05-01", "2026-05-02", "2026-05-03"]
    (odd,) = (row for row in found["by"]["model"] if row["model"] == "[b]odd[/b]")
    assert odd == {
        "model": "[b]odd[/b]",
        "requests": 1,
        "computed_usd": None,
        "reported_usd": 0.25,
        "difference_usd": None,
        "per_1000_requests_usd": None,
        "unpriced_request_share": 1.0,
        "unpriced_token_share": 1.0,
        "tokens": {"input_tokens": 5, "output_tokens": 5},
        "evidence": "reported",
    }
    assert found["total"]["computed_usd"] == 9.0
    assert list(books("ledger", "--by", "team", "--json").json["by"]) == ["team"]


def test_small_amounts_do_not_look_like_nothing(run: Run, tmp_path: Path) -> None:
    rows = "a,x,acme-1,1000000,0,,,,\nb,x,acme-2,0,1,,,,\n"
    (tmp_path / "calls.csv").write_text(HEADER + rows, "utf-8")
    (tmp_path / "prices.yaml").write_text(PRICES, "utf-8")
    run("import", "calls.csv", "--prices", "prices.yaml")
    (row,) = (line for line in lines(run("ledger").out) if line and line[0] == "acme-2")
    assert row[2].strip() == "under $0.01"


def test_a_name_cannot_command_the_terminal(run: Run, tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "x", "model": "\x1b[31mred\nand more"}
    (tmp_path / "calls.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    run("import", "calls.jsonl")
    out = run("ledger").out
    assert "\x1b" not in out
    assert "�[31mred and more" in out


def test_without_a_database_there_is_one_sentence(run: Run) -> None:
    said = run("ledger", "--json")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("stillhouse: there is no database at stillhouse.db; run ")
    assert len(said.err.splitlines()) == 1


def test_empty_books_say_what_to_do(run: Run, tmp_path: Path) -> None:
    wiring.open_store(str(tmp_path / "stillhouse.db")).close()
    assert run("ledger")[:2] == (
        0,
        "The books are empty; bring a log in: stillhouse import FILE\n",
    )
    assert run("ledger", "--json").json["total"]["requests"] == 0


def test_an_unknown_grouping_is_refused(run: Run) -> None:
    said = run("ledger", "--by", "moon")
    assert said.code == 2
    assert "'moon' is not one of 'model', 'task', 'team', 'day', 'customer', 'feature'" in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_says_how_to_install_it(run: Run, shell: str) -> None:
    said = run("completion", shell)
    assert said.code == 0
    assert f"_STILLHOUSE_COMPLETE={shell}_complete" in said.out
    assert said.out.splitlines()[-1].startswith("# To install: ")


def test_another_shell_is_refused(run: Run) -> None:
    assert run("completion", "csh").code == 2


def test_the_completion_knows_the_verbs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_STILLHOUSE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "stillhouse led")
    monkeypatch.setenv("COMP_CWORD", "1")
    said = run()
    assert said.out == "plain,ledger\n"

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse import wiring
from stillhouse.cli.import_verb import Quarantine
from stillhouse.flows.import_log import ROWS_A_BATCH, ImportSummary, import_log

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "shared" / "data"))


Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""


def pair(n: int, answer: str = "yes", *, tokens: int = 100, model: str = "gpt-4o") -> str:
    request = {"model": model, "messages": [{"role": "user", "content": f"question {n}"}]}
    response = {
        "id": f"c{n}",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1},
    }
    row = {"id": f"c{n}", "request": request, "response": response}
    return json.dumps(row | {"created_at": 1_780_000_000 + n})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def quarantined(path: Path) -> list[tuple[int, str]]:
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [(row["line"], row["raw"]) for row in rows]


def test_a_log_is_recognised_and_its_summary_said(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", *map(pair, range(3)))
    said = run("import", "calls.jsonl")
    assert said.code == 0
    assert "calls.jsonl holds native pairs (OpenAI chat bodies)" in said.err
    assert "3 rows: 3 new, 0 duplicates" in said.out
    assert "from 2026-05-28 20:26 to 2026-05-28 20:26 UTC" in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls.jsonl", "stillhouse.db"]


def test_importing_twice_changes_nothing(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", *map(pair, range(3)))
    run("import", "calls.jsonl")
    before = run("ledger", "--json").json
    said = run("import", "calls.jsonl", "calls.jsonl", "--json")
    assert said.code == 0
    assert [(f["new"], f["duplicates"]) for f in said.json["files"]] == [(0, 3)]
    assert run("ledger", "--json").json == before


def test_json_is_one_object_with_a_part_for_each_file(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *map(pair, range(3)), pair(9, model="unheard of"))
    write(tmp_path / "b.csv", "text,teacher,ts", "hello,greeting,2026-05-01")
    found = run("--db", "own.db", "import", "a.jsonl", "b.csv", "--json").json
    assert {name: found[name] for name in ("database", "rows", "new", "unpriced")} == {
        "database": "own.db",
        "rows": 5,
        "new": 5,
        "unpriced": 2,
    }
    assert [(f["file"], f["format"], f["rows"], f["first_at"]) for f in found["files"]] == [
        ("a.jsonl", "pairs", 4, "2026-05-28T20:26:40+00:00"),
        ("b.csv", "table", 1, "2026-05-01T00:00:00+00:00"),
    ]
    assert all(f["quarantine_file"] is None for f in found["files"])


def test_broken_rows_are_set_aside_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    log = write(tmp_path / "calls.jsonl", pair(1), "{broken", pair(2), pair(3, tokens=-4))
    said = run("import", "calls.jsonl")
    assert said.code == 0
    assert "4 rows: 2 new" in said.out
    assert "2 rows set aside in calls.jsonl.quarantine.jsonl, the first: line 2: " in said.out
    aside = tmp_path / "calls.jsonl.quarantine.jsonl"
    lines = log.read_text("utf-8").splitlines()
    assert quarantined(aside) == [(2, lines[1]), (4, lines[3])]

    (found,) = run("import", "calls.jsonl", "--json").json["files"]
    assert (found["new"], found["duplicates"], found["quarantined"]) == (0, 2, 2)
    assert found["quarantine_file"] == "calls.jsonl.quarantine.jsonl"
    assert quarantined(aside) == [(2, lines[1]), (4, lines[3])]

    write(log, pair(1), pair(2))
    assert run("import", "calls.jsonl", "calls.jsonl.quarantine.jsonl").code == 0
    assert not aside.exists()


def test_an_interrupted_import_goes_on_and_keeps_what_it_set_aside(
    run: Run, tmp_path: Path
) -> None:
    rows = list(map(pair, range(ROWS_A_BATCH + 50)))
    rows[7] = "{broken"
    rows[ROWS_A_BATCH + 20] = "{broken too"
    path = write(tmp_path / "calls.jsonl", *rows)
    (log,) = wiring.recognise_logs([path], {}, {})

    def interrupt(_: ImportSummary, __: float) -> None:
        raise KeyboardInterrupt

    with (
        wiring.open_store(str(tmp_path / "stillhouse.db")) as store,
        pytest.raises(KeyboardInterrupt),
    ):
        import_log(
            log.open,
            log.fingerprint(),
            store,
            wiring.price_book(None, 0),
            now_us=0,
            set_aside=Quarantine(path).add,
            progress=interrupt,
        )
    # What was set aside of a batch that was not booked is met again.
    Quarantine(path).add(ROWS_A_BATCH + 21, "not JSON", "{broken too")
    said = run("import", "calls.jsonl")
    assert said.code == 0
    assert f"went on after line {ROWS_A_BATCH:,}" in said.out
    assert "50 rows: 49 new" in said.out
    assert quarantined(tmp_path / "calls.jsonl.quarantine.jsonl") == [
        (8, "{broken"),
        (ROWS_A_BATCH + 21, "{broken too"),
    ]


def test_a_table_is_mapped_and_its_missing_fields_set(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "prompt.md", "Sort the message.")
    write(tmp_path / "t.csv", "who=what,label,at", "hi,greeting,2026-05-01", "bye,parting,")
    said = run(
        *("import", "t.csv", "--map", "who=what=prompt", "--map", "label=answer"),
        *("--map", "at=created_at", "--set", "model=gpt-4o", "--set", "system=@prompt.md"),
    )
    assert (said.code, said.err.count("set model, system")) == (0, 1)
    with wiring.existing_store(str(tmp_path / "stillhouse.db")) as store:
        asked = [[m.text for m in e.request.messages] for e in store.exchanges()]
    assert asked == [["Sort the message.", "bye"], ["Sort the message.", "hi"]]


def test_own_prices_are_used(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", pair(1, model="house-llm"))
    write(tmp_path / "p.yaml", "- {model: house-llm, usd_per_mtok: {input: 10, output: 1000}}")
    said = run("import", "calls.jsonl")
    assert "1 row without a price: `stillhouse ledger` names the models" in said.out
    run("--db", "priced.db", "import", "calls.jsonl", "--prices", "p.yaml")
    total = run("--db", "priced.db", "ledger", "--json").json["total"]
    assert (total["computed_usd"], total["unpriced_request_share"]) == (0.002, 0)


def test_a_table_without_a_model_is_told_how_to_name_it(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "prompt,answer,input_tokens", "hi,greeting,3")
    assert "give it with --set model=NAME" in run("import", "t.csv").out


BAD_FILES: dict[str, tuple[bytes | str, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "prose": (b"Dear diary\nnothing happened\n", "looks like plain text"),
    "another JSON": (b'{"a": 1}\n', "is no log that is known"),
    "an array": (b'[{"prompt": "a"}]\n', "is one JSON array"),
    "UTF-16": ("prompt,answer\na,b\n".encode("utf-16"), "is written in UTF-16"),
    "Latin-1": ("prompt,answer\ncafé,b\n".encode("latin-1"), "is not UTF-8"),
    "mixed": (
        f'{pair(1)}\n{{"custom_id": "a", "response": {{}}}}\n'.encode(),
        "mixes formats",
    ),
    "header only": (b"prompt,answer\n", "has no rows"),
    "negative tokens": (pair(1, tokens=-4).encode(), "cannot be negative"),
    "leaves above totals": (
        pair(1).replace('"total_tokens"', '"prompt_tokens_details": {"cached_tokens": 900}, "t"'),
        "parts are larger",
    ),
    "cut gzip": (gzip.compress(pair(1).encode() * 50)[:-20], "its gzip stream is broken or cut"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_sentence_and_leaves_no_row(run: Run, tmp_path: Path, name: str) -> None:
    content, sentence = BAD_FILES[name]
    (tmp_path / "log").write_bytes(content if isinstance(content, bytes) else content.encode())
    said = run("import", "log", "--json")
    assert (said.code, said.out) == (2, "")
    last = said.err.splitlines()[-1]
    assert last.startswith("stillhouse: ")
    assert sentence in last
    if (tmp_path / "stillhouse.db").exists():
        assert run("ledger", "--json").json["total"]["requests"] == 0


def test_no_file_is_imported_where_one_of_them_is_no_log(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", pair(1))
    write(tmp_path / "bad.jsonl", "")
    assert run("import", "good.jsonl", "bad.jsonl").code == 2
    assert not (tmp_path / "stillhouse.db").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["."], "is a directory"),
        (["t.csv", "--set", "model"], "--set is given 'model'; write it as field=value"),
        (["t.csv", "--map", "prompt="], "--map is given 'prompt='; write it as column=field"),
        (["t.csv", "--set", "moon=1"], "a table has no field 'moon'"),
        (["t.csv", "--map", "moon=prompt"], "there is no column 'moon'"),
        (["t.csv", "--set", "system=@nowhere.md"], "--set system=@nowhere.md cannot be read"),
        (["t.csv", "--prices", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["old.jsonl.quarantine.jsonl"], "holds rows that an import set aside"),
        (["may_input.jsonl"], "holds the requests of a batch and no answers"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_made(
    run: Run, tmp_path: Path, words: list[str], sentence: str
) -> None:
    write(tmp_path / "t.csv", "prompt,answer", "hi,greeting")
    write(tmp_path / "may_input.jsonl", '{"custom_id": "a", "body": {"messages": []}}')
    said = run("import", *words)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert not (tmp_path / "stillhouse.db").exists()


def test_an_id_that_is_taken_by_other_content_is_set_aside(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", pair(1, "yes"))
    write(tmp_path / "b.jsonl", pair(1, "no"))
    run("import", "a.jsonl")
    said = run("import", "b.jsonl")
    assert said.code == 2
    assert "the id 'c1' is in the books with another content" in said.err
    assert "with their reasons" in said.err
    assert run("ledger", "--json").json["total"]["requests"] == 1


def test_one_log_without_a_good_row_does_not_hide_the_others(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "bad.jsonl", pair(1, tokens=-1))
    write(tmp_path / "good.jsonl", pair(2))
    said = run("import", "bad.jsonl", "good.jsonl")
    assert said.code == 0
    assert "no row of bad.jsonl can be booked (line 1: usage.prompt_tokens is -1" in said.err
    assert "1 row: 1 new" in said.out


def test_a_place_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", pair(1), "{broken")
    (tmp_path / "calls.jsonl.quarantine.jsonl").mkdir()
    said = run("import", "calls.jsonl")
    assert said.code == 2
    assert "calls.jsonl.quarantine.jsonl, which cannot be written" in said.err
    assert run("ledger", "--json").json["total"]["requests"] == 0


def test_a_database_that_cannot_be_used_is_said(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", pair(1))
    newer = tmp_path / "newer.db"
    wiring.open_store(str(newer)).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    write(tmp_path / "text.db", "no database at all")
    for database, sentence in (
        ("newer.db", "newer.db was written by a newer version"),
        ("text.db", "text.db is not a database"),
        ("nowhere/some.db", "nowhere/some.db cannot be opened"),
    ):
        said = run("--db", database, "import", "calls.jsonl")
        assert (said.code, said.out) == (2, "")
        assert sentence in said.err


def test_a_second_import_at_the_same_time_is_refused(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", pair(1))
    with wiring.open_store(str(tmp_path / "stillhouse.db")) as store, store.importing():
        said = run("import", "calls.jsonl")
    assert said.code == 2
    assert "another process is importing into stillhouse.db" in said.err


def test_the_installed_command_does_the_same(tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", pair(1))
    done = subprocess.run(
        [Path(sys.executable).with_name("stillhouse"), "import", "calls.jsonl", "--json"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["new"] == 1


RECORDED = {
    "banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz": (
        "banking77_deepseek/banking77_teacher_prompt.md",
        "deepseek/deepseek-v4.1-flash",
        13_083,
        0.0796028296,
    ),
    "invoices_deepseek/invoices_deepseek_v4_flash.jsonl.gz": (
        "invoices_deepseek/invoices_teacher_prompt.md",
        "deepseek/deepseek-v4-flash-0731",
        3_000,
        0.13840338,
    ),
}


@pytest.mark.parametrize("recorded", RECORDED)
def test_the_computed_cost_of_recorded_traffic_is_the_billed_one_to_the_last_digit(
    run: Run, tmp_path: Path, recorded: str
) -> None:
    prompt, model, rows, billed = RECORDED[recorded]
    if not (DATA / recorded).exists():
        pytest.skip(f"the recorded traffic is not at {DATA}")
    constants = (f"model={model}", "host=deepinfra/fp8", f"system=@{DATA / prompt}")
    settings = [word for constant in constants for word in ("--set", constant)]
    found = run("import", str(DATA / recorded), *settings, "--json").json
    assert (found["rows"], found["new"], found["unpriced"]) == (rows, rows, 0)
    total = run("ledger", "--json").json["total"]
    assert (total["computed_usd"], total["reported_usd"]) == (billed, billed)
    assert total["difference_usd"] == 0
    if "banking77" in recorded:
        (task,) = run("tasks", "--json").json["tasks"]
        assert (task["shape"], task["requests"]) == ("labels", rows)
        assert 75 <= len(task["labels"]) <= 80
        assert task["spend"]["computed_usd"] == billed
        assert task["constant_input_share"] > 0.9

"""That the workload is what its source and its README say."""

from __future__ import annotations

import gzip
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import orjson

from stillhouse import demo
from stillhouse.core.traffic import LoggedCall
from stillhouse.distillation.duplicates import near_duplicate_groups

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src/stillhouse/demo"
PARTS = ("everyday", "varied")


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)"


def places_of(written: list[dict[str, str]]) -> dict[str, list[int]]:
    """Where each different message stands."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(written):
        places[row["message"]].append(place)
    return places


def of_part(written: list[dict[str, str]], part: str) -> list[dict[str, str]]:
    return [row for row in written if row["part"] == part]


def in_groups(texts: list[str]) -> int:
    """How many texts have a near duplicate."""
    sizes = Counter(near_duplicate_groups(texts))
    return sum(size for size in sizes.values() if size > 1)


def figures(rows: list[dict[str, str]]) -> dict[str, str]:
    """What the README tells of some rows, by its name there."""
    places = places_of(rows)
    pairs = [two for two in places.values() if len(two) == 2]
    differ = sum(rows[one]["answer"] != rows[two]["answer"] for one, two in pairs)
    return {
        "messages": f"{len(rows):,}",
        "answers that differ from the writer's own intent": share(
            sum(row["answer"] != row["writer_intent"] for row in rows), len(rows)
        ),
        "pairs of the same message with two different answers": share(differ, len(pairs)),
        "messages in Spanish": share(sum(row["lang"] == "es" for row in rows), len(rows)),
        "near duplicates among the different messages": share(in_groups(list(places)), len(places)),
    }


def in_the_wheel() -> list[str]:
    """The entries of the room that the project's build settings pack."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    left_out = settings["tool"]["hatch"]["build"]["targets"]["wheel"].get("exclude", [])
    barred = {ROOT / pattern.removesuffix("/**").strip("/") for pattern in left_out}
    entries = sorted(entry for entry in ROOM.iterdir() if entry.name != "__pycache__")
    return [
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in entries
        if entry not in barred
    ]


def test_two_builds_are_the_same_bytes(build: Callable[[], bytes]) -> None:
    assert build() == build()


def test_a_build_gives_the_rows_that_ship(build: Callable[[], bytes]) -> None:
    # Rows, not bytes: another version of the compressor may pack the same rows differently.
    with demo.workload() as log:
        shipped = gzip.decompress(log.read_bytes())
    assert gzip.decompress(build()) == shipped


def test_the_archive_carries_no_date() -> None:
    with demo.workload() as log:
        assert log.read_bytes()[4:8] == b"\0\0\0\0"


def test_every_line_is_one_object_with_the_fields_of_a_pair() -> None:
    wanted = {"id", "request", "response", "created_at", "latency_ms", "host", "metadata"}
    with demo.workload() as log, gzip.open(log) as lines:
        rows = [orjson.loads(line) for line in lines]
    assert all(set(row) == wanted for row in rows)
    assert all(set(row["metadata"]) <= {"task", "team", "feature", "region"} for row in rows)
    assert {row["request"]["temperature"] for row in rows} == {0}
    assert all("id" not in row["response"] for row in rows)
    reviews = [row for row in rows if row["metadata"]["team"] == "catalogue"]
    for row in reviews:
        assert row["request"]["response_format"] == {"type": "json_object"}
        facts = orjson.loads(row["response"]["choices"][0]["message"]["content"])
        assert list(facts) == ["product", "stars", "sentiment", "defect"]


def test_messages_occur_once_or_are_one_of_the_declared_repeats(
    written: list[dict[str, str]],
) -> None:
    counted = {
        part: Counter(map(len, places_of(of_part(written, part)).values())) for part in PARTS
    }
    assert counted == {"everyday": {1: 3_040, 2: 80}, "varied": {1: 1_478, 2: 71}}
    assert Counter(map(len, places_of(written).values())) == {1: 4_514, 2: 153}


def test_the_varied_part_is_what_a_hash_chose_and_what_is_debatable(
    written: list[dict[str, str]],
) -> None:
    varied = of_part(written, "varied")
    debatable = {row["message"] for row in varied if row["other_defensible"]}
    added = [
        row["message"]
        for row in varied
        if blake2b(row["message"].encode(), digest_size=2).digest()[0] >= 128
    ]
    assert set(added) <= debatable
    assert len(added) == 57


def test_messages_are_no_template_with_swapped_words(written: list[dict[str, str]]) -> None:
    texts = list(places_of(written))
    openings = Counter(" ".join(text.lower().split()[:4]) for text in texts)
    assert in_groups(texts) < 0.01 * len(texts)
    assert max(openings.values()) < 0.005 * len(texts)


def test_a_debatable_answer_names_another_intent_and_stands_in_the_part_that_was_read_twice(
    written: list[dict[str, str]],
) -> None:
    intents = {row["answer"] for row in written}
    marked = [row for row in written if row["other_defensible"]]
    assert {row["part"] for row in marked} == {"varied"}
    for row in marked:
        assert row["other_defensible"] in intents - {row["answer"]}


def test_the_figures_of_the_readme_are_those_of_the_data(
    readme: str, written: list[dict[str, str]], calls: list[LoggedCall]
) -> None:
    told = re.findall(r"^\| ([^|]+)" + r" \| (\d[^|]*)" * 3 + r" \|$", readme, re.MULTILINE)
    columns = [figures(of_part(written, part)) for part in PARTS] + [figures(written)]
    assert told == [(name, *(column[name] for column in columns)) for name in columns[0]]
    varied = of_part(written, "varied")
    debatable = sum(bool(row["other_defensible"]) for row in varied)
    unpriced = sum(call.model == "larkspur-preview" for call in calls)
    assert re.findall(r"^\| ([^|]+) \| (\d[\d,]* of [^|]+) \|$", readme, re.MULTILINE) == [
        (
            "varied: answers beside which a second reader can defend another intent",
            share(debatable, len(varied)),
        ),
        (
            "both parts: answers marked so, none of them in `everyday`, which was not read twice",
            share(debatable, len(written)),
        ),
        ("calls without a price, all teams", share(unpriced, len(calls))),
    ]


def test_the_readme_names_what_the_wheel_carries_of_this_folder(readme: str) -> None:
    (told,) = re.findall(r"^In the wheel: (.+)\.$", readme, re.MULTILINE)
    assert re.findall(r"`([^`]+)`", told) == in_the_wheel()


def test_the_label_counts_of_the_readme_are_those_of_the_data(
    readme: str, written: list[dict[str, str]]
) -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|$", readme, re.MULTILINE))
    counted = Counter(row["answer"] for row in written)
    assert told == {answer: str(count) for answer, count in counted.items()}


def test_the_calls_of_the_readme_are_those_of_the_data(
    readme: str, calls: list[LoggedCall]
) -> None:
    told = dict(re.findall(r"^\| (support|catalogue|staff) \| ([\d,]+) \|", readme, re.MULTILINE))
    counted = Counter(call.tags.team for call in calls)
    assert told == {team: f"{count:,}" for team, count in counted.items()}

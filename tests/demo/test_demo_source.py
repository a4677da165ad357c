"""That the workload is what its source and its README say."""

from __future__ import annotations

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Callable

import orjson

from stillhouse import demo
from stillhouse.core.traffic import LoggedCall
from stillhouse.distillation.duplicates import near_duplicate_groups

BATCH = 540


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)"


def places_of(written: list[dict[str, str]]) -> dict[str, list[int]]:
    """Where each different message stands."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(written):
        places[row["message"]].append(place)
    return places


def in_groups(texts: list[str]) -> int:
    """How many texts have a near duplicate."""
    sizes = Counter(near_duplicate_groups(texts))
    return sum(size for size in sizes.values() if size > 1)


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
    assert {row["request"]["temperature"] for row in rows} == {0}
    assert all("id" not in row["response"] for row in rows)
    reviews = [row for row in rows if row["metadata"]["team"] == "catalogue"]
    for row in reviews:
        assert row["request"]["response_format"] == {"type": "json_object"}
        facts = orjson.loads(row["response"]["choices"][0]["message"]["content"])
        assert list(facts) == ["product", "stars", "sentiment", "defect"]


def test_no_message_occurs_twice_beside_the_declared_repeats(
    written: list[dict[str, str]],
) -> None:
    assert Counter(map(len, places_of(written).values())) == {1: 2_998, 2: 121}


def test_messages_are_no_template_with_swapped_words(written: list[dict[str, str]]) -> None:
    texts = list(places_of(written))
    openings = Counter(" ".join(text.lower().split()[:4]) for text in texts)
    assert in_groups(texts) < 0.01 * len(texts)
    assert max(openings.values()) < 0.005 * len(texts)


def test_a_debatable_answer_names_an_intent_other_than_the_one_given(
    written: list[dict[str, str]],
) -> None:
    intents = {row["answer"] for row in written}
    others = [(row["other_defensible"], row["answer"]) for row in written]
    assert all(other in intents and other != answer for other, answer in others if other)


def test_the_figures_of_the_readme_are_those_of_the_data(
    readme: str, written: list[dict[str, str]], calls: list[LoggedCall]
) -> None:
    answers = [row["answer"] for row in written]
    places = places_of(written)
    pairs = [two for two in places.values() if len(two) == 2]
    apart = [(one, two) for one, two in pairs if one // BATCH != two // BATCH]
    differ = sum(row["answer"] != row["writer_intent"] for row in written)
    debatable = sum(bool(row["other_defensible"]) for row in written)
    spanish = sum(row["lang"] == "es" for row in written)
    unpriced = sum(call.model == "larkspur-preview" for call in calls)
    assert re.findall(r"^\| (.+) \| (\d[\d,]* of .+) \|$", readme, re.MULTILINE) == [
        ("answers that differ from the writer's own intent", share(differ, len(written))),
        (
            "pairs of the same message with two different answers",
            share(sum(answers[one] != answers[two] for one, two in pairs), len(pairs)),
        ),
        (
            "the same, where the two were read in different batches",
            share(sum(answers[one] != answers[two] for one, two in apart), len(apart)),
        ),
        (
            "answers beside which a second reader can defend another intent",
            share(debatable, len(written)),
        ),
        ("messages in Spanish", share(spanish, len(written))),
        (
            "near duplicates among the different messages",
            share(in_groups(list(places)), len(places)),
        ),
        ("calls without a price, all teams", share(unpriced, len(calls))),
    ]


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

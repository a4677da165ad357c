"""Build the bundled workload from its hand-written source: the same rows every time.

    python tools/build_workload.py [FILE]

Texts and answers come from src/stillhouse/demo/source as they are; the part that a message belongs
to is not told in the log. Simulated here: the instants, the latencies, the token counts. The rules
are told in src/stillhouse/demo/README.md. Chance comes from `random.Random.random` alone, whose
numbers are the same in every version of Python.
"""

from __future__ import annotations

import csv
import gzip
import math
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import merge
from itertools import accumulate
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any, NamedTuple

import orjson

from stillhouse.students.wordpiece import WordPiece

PACKAGE = Path(__file__).resolve().parents[1] / "src/stillhouse"
SOURCE = PACKAGE / "demo/source"
TARGET = PACKAGE / "demo/larkspur.jsonl.gz"

START, DAYS = datetime(2026, 10, 1, tzinfo=UTC), 31
CACHE_BLOCK, CACHE_LIFE = 128, timedelta(minutes=10)
PREVIEWED = 12
MAIL_WORDS = 30
LATENCY_SPREAD = 0.35
LATENCY_MS = {  # to the first token, and for each token of the answer
    "larkspur-large": (420, 18),
    "larkspur-preview": (600, 22),
    "larkspur-small": (190, 7),
}

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Rhythm:
    """How busy a team's hours are, relative to each other; weekdays start on Monday."""

    weekdays: tuple[float, ...]
    hours: tuple[float, ...]
    campaign: float = 1.0
    campaign_days: tuple[int, int] = (12, 18)

    def weight(self, hour: datetime) -> float:
        first, last = self.campaign_days
        lift = self.campaign if first <= hour.day <= last else 1.0
        return self.weekdays[hour.weekday()] * self.hours[hour.hour] * lift


CUSTOMERS = Rhythm(
    weekdays=(1.15, 1.05, 1.0, 1.0, 0.95, 0.6, 0.45),
    hours=(1, 1, 0, 0, 0, 1, 3, 6, 9, 11, 11, 10, 9, 9, 9, 9, 9, 10, 10, 11, 10, 8, 5, 2),
    campaign=1.7,
)
NIGHT_JOB = Rhythm(weekdays=(1,) * 7, hours=(0, 0, 1) + (0,) * 21)
OFFICE = Rhythm(
    weekdays=(1, 1, 1, 1, 0.8, 0, 0),
    hours=(0,) * 7 + (2, 6, 8, 8, 7, 3, 6, 8, 7, 5, 2) + (0,) * 6,
)


@dataclass(frozen=True)
class Call:
    """What was asked and answered, before it has a time."""

    model: str
    messages: Messages
    answer: str
    metadata: dict[str, str]
    wants_json: bool = False


class Team(NamedTuple):
    """Calls in the order in which they are made, and when that team is busy."""

    name: str
    calls: list[Call]
    rhythm: Rhythm


def support(source: Path) -> Team:
    """The untagged intents of the support desk."""
    prompt = _prompt(source / "intent_prompt.txt")
    calls = []
    with (source / "intents.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            text = row["message"].replace("\\n", "\n")
            metadata = {
                "team": "support",
                "feature": "mail" if len(text.split()) > MAIL_WORDS else "chat",
                "region": "eu-south" if row["lang"] == "es" else "eu-west",
            }
            asked = [prompt, {"role": "user", "content": text}]
            calls.append(Call("larkspur-large", asked, row["answer"], metadata))
    return Team("support", calls, CUSTOMERS)


def catalogue(source: Path) -> Team:
    """The tagged reviews, answered as JSON."""
    prompt = _prompt(source / "review_prompt.txt")
    metadata = {
        "task": "review-facts",
        "team": "catalogue",
        "feature": "product-page",
        "region": "eu-west",
    }
    calls = [
        Call(
            "larkspur-small",
            [prompt, {"role": "user", "content": row["review"]}],
            orjson.dumps(row["answer"]).decode(),
            metadata,
            wants_json=True,
        )
        for row in _json_rows(source / "reviews.jsonl")
    ]
    return Team("catalogue", calls, NIGHT_JOB)


def staff(source: Path) -> Team:
    """Conversations that are no task; the last ones try a model that nobody has a price for."""
    metadata = {"team": "staff", "feature": "assistant", "region": "eu-west"}
    rows = _json_rows(source / "chats.jsonl")
    calls = [
        Call(
            "larkspur-preview" if number >= len(rows) - PREVIEWED else "larkspur-large",
            row["messages"],
            row["answer"],
            metadata,
        )
        for number, row in enumerate(rows)
    ]
    return Team("staff", calls, OFFICE)


def _prompt(path: Path) -> dict[str, str]:
    return {"role": "system", "content": path.read_text("utf-8").strip()}


def _json_rows(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def timed(team: Team) -> Iterator[tuple[datetime, Call]]:
    """Give a team's calls their instants, in order, as busy as its rhythm."""
    chance = Random(team.name)
    hours = [START + timedelta(hours=number) for number in range(24 * DAYS)]
    reached = list(accumulate(map(team.rhythm.weight, hours), initial=0.0))
    drawn = sorted(chance.random() * reached[-1] for _ in team.calls)
    for place, call in zip(drawn, team.calls, strict=True):
        hour = bisect_right(reached, place) - 1
        share = (place - reached[hour]) / (reached[hour + 1] - reached[hour])
        yield hours[hour] + timedelta(milliseconds=int(share * 3_600_000)), call


@cache
def pieces(text: str) -> int:
    """How many word pieces a text has: the count that stands for its tokens."""
    return len(_vocabulary().numbers(text)) - 2


@cache
def _vocabulary() -> WordPiece:
    return WordPiece.read(PACKAGE / "students/assets/vocab.txt", max_tokens=100_000)


def rows(source: Path) -> Iterator[dict[str, Any]]:
    """The month as native pairs, in order of time."""
    chance = Random("latency")
    teams = [timed(read(source)) for read in (support, catalogue, staff)]
    asked: dict[tuple[str, str], datetime] = {}
    for number, (at, call) in enumerate(merge(*teams, key=lambda made: made[0]), start=1):
        system = call.messages[0]["content"] if call.messages[0]["role"] == "system" else ""
        before = asked.get((call.model, system))
        warm = before is not None and at - before <= CACHE_LIFE
        asked[call.model, system] = at
        yield {
            "id": f"larkspur-{number:05}",
            "request": _request(call),
            "response": _response(call, pieces(system) // CACHE_BLOCK * CACHE_BLOCK if warm else 0),
            "created_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "latency_ms": _latency_ms(call, chance.random()),
            "host": "larkspur-demo",
            "metadata": call.metadata,
        }


def _request(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = {"model": call.model, "temperature": 0, "messages": call.messages}
    if call.wants_json:
        body["response_format"] = {"type": "json_object"}
    return body


def _response(call: Call, cached: int) -> dict[str, Any]:
    asked = sum(pieces(message["content"]) for message in call.messages)
    answered = pieces(call.answer)
    answer = {"role": "assistant", "content": call.answer}
    return {
        "object": "chat.completion",
        "model": call.model,
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def _latency_ms(call: Call, drawn: float) -> int:
    """A latency from the lognormal around what the model needs for an answer of this length."""
    first, each = LATENCY_MS[call.model]
    spread = math.exp(LATENCY_SPREAD * NormalDist().inv_cdf(max(drawn, 1e-9)))
    return round((first + each * pieces(call.answer)) * spread)


def build(source: Path = SOURCE) -> bytes:
    """The whole workload as a gzip file without a date."""
    content = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows(source))
    return gzip.compress(content, mtime=0)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_bytes(build())

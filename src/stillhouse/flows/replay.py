"""The story of a replay: recorded traffic runs through the policy as it would be served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from stillhouse.core.learning import Answerer, Decision, Policy, Prediction
from stillhouse.core.money import Avoided, Paid
from stillhouse.risk.evidence import exact_interval
from stillhouse.routing.cascade import Ask, cascade

CHUNK = 2048
_US_A_DAY = 86_400_000_000


class Recorded(NamedTuple):
    """One answered request: the teacher's normalised answer, how long it took, what it cost.

    `teacher` is the model that answered, empty where the log does not name it.
    """

    row_id: str
    at_us: int | None
    text: str
    label: str
    latency_ms: float | None
    cost_pico: int | None
    teacher: str = ""


class Watcher(Protocol):
    """Says who answers as the rows go by, and hears what came of each."""

    def policy_for(self, row: Recorded) -> Policy | None:
        """The policy that this row is answered by; None where it is the teacher's."""
        ...

    def hear(self, row: Recorded, prediction: Prediction, decision: Decision, coin: bool) -> None:
        """Take note of a row; it may change who answers the next one."""
        ...


@dataclass(slots=True)
class Tally:
    """What happened on one day; `avoided_pico` is a counterfactual at the recorded costs.

    `paid_pico` is what the teacher calls that remain cost, shadow calls included; `unpriced`
    counts rows without a cost, which are in neither sum.
    """

    requests: int = 0
    accepted: int = 0
    agreed: int = 0
    teacher_calls: int = 0
    shadow_calls: int = 0
    paid_pico: int = 0
    avoided_pico: int = 0
    unpriced: int = 0

    @property
    def paid(self) -> Paid:
        """What the remaining teacher calls cost."""
        return Paid(self.paid_pico)

    @property
    def avoided(self) -> Avoided:
        """What the calls not made would have cost."""
        return Avoided(self.avoided_pico)

    @property
    def accept_rate(self) -> float:
        """Share of the requests that the student answered."""
        return self.accepted / self.requests if self.requests else 0.0

    @property
    def agreement(self) -> tuple[float, float, float] | None:
        """Agreement among the accepted with the ends of its exact 95 % interval."""
        if not self.accepted:
            return None
        low, high = exact_interval(self.agreed, self.accepted)
        return self.agreed / self.accepted, low, high


@dataclass(slots=True)
class Replay:
    """A replay by day, in time order, and in all; rows without a time stand under None."""

    days: dict[date | None, Tally] = field(default_factory=dict)
    total: Tally = field(default_factory=Tally)
    teacher_ms: list[float] = field(default_factory=list)
    deferred_ms: list[float] = field(default_factory=list)

    def latency_ms(self, student_ms: float) -> dict[str, tuple[float, float]]:
        """Median and 95th percentile: the teacher alone, and the cascade with this student.

        Empty where the log holds no latencies.
        """
        if not self.teacher_ms:
            return {}
        waits = np.array(self.deferred_ms) + student_ms
        served = np.concatenate([np.full(self.total.accepted, student_ms), waits])
        return {
            "teacher": _percentiles(np.array(self.teacher_ms)),
            "cascade": _percentiles(served),
        }


def replay(
    rows: Iterable[Recorded],
    policy: Policy,
    predict: Callable[[Sequence[str]], Sequence[Prediction]],
    shadowed: Callable[[str], bool],
    watcher: Watcher | None = None,
) -> Replay:
    """Run rows, given in time order, through the policy that would serve them.

    The cascade is the one that serves; only the answers come from the log. `predict` is asked for
    many texts at once, `shadowed` tosses the coin of a request id. With a `watcher` the policy is
    what it says, row by row.
    """
    result = Replay()
    for some in _chunks(rows):
        predictions = predict([row.text for row in some])
        for row, prediction in zip(some, predictions, strict=True):
            coin = shadowed(row.row_id)
            ruling = policy if watcher is None else watcher.policy_for(row)
            decision = _one(result, row, prediction, ruling, coin)
            if watcher is not None:
                watcher.hear(row, prediction, decision, coin)
    result.total = _sum(result.days.values())
    return result


def _one(
    result: Replay, row: Recorded, prediction: Prediction, policy: Policy | None, coin: bool
) -> Decision:
    decision, teacher_calls, shadow_calls = drive(policy, row.label, prediction, coin)
    tally = result.days.get(day := _day(row.at_us))
    if tally is None:
        tally = result.days[day] = Tally()
    tally.requests += 1
    tally.teacher_calls += teacher_calls
    tally.shadow_calls += shadow_calls
    if row.cost_pico is None:
        tally.unpriced += 1
    elif teacher_calls or shadow_calls:
        tally.paid_pico += row.cost_pico
    else:
        tally.avoided_pico += row.cost_pico
    if row.latency_ms is not None:
        result.teacher_ms.append(row.latency_ms)
    if decision.answerer is Answerer.STUDENT:
        tally.accepted += 1
        tally.agreed += decision.label == row.label
    elif row.latency_ms is not None:
        result.deferred_ms.append(row.latency_ms)
    return decision


def drive(
    policy: Policy | None, label: str, prediction: Prediction, coin: bool
) -> tuple[Decision, int, int]:
    """Answer the cascade's questions from the record; the decision, teacher and shadow calls."""
    recorded = Prediction(label, 1.0)
    steps = cascade(policy, coin)
    teacher_calls = shadow_calls = 0
    try:
        ask = next(steps)
        while True:
            if ask is Ask.STUDENT:
                ask = steps.send(prediction)
            else:
                shadow_calls += ask is Ask.SHADOW
                teacher_calls += ask is Ask.TEACHER
                ask = steps.send(recorded)
    except StopIteration as done:
        decision: Decision = done.value
        return decision, teacher_calls, shadow_calls


def _chunks(rows: Iterable[Recorded]) -> Iterator[list[Recorded]]:
    stream = iter(rows)
    while some := list(islice(stream, CHUNK)):
        yield some


_DAYS: dict[int, date] = {}


def _day(at_us: int | None) -> date | None:
    if at_us is None:
        return None
    number = at_us // _US_A_DAY
    if number not in _DAYS:
        _DAYS[number] = datetime.fromtimestamp(number * 86_400, UTC).date()
    return _DAYS[number]


def _sum(parts: Iterable[Tally]) -> Tally:
    total = Tally()
    for part in parts:
        for name in Tally.__slots__:
            setattr(total, name, getattr(total, name) + getattr(part, name))
    return total


def _percentiles(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    middle, high = np.percentile(values, (50, 95))
    return float(middle), float(high)

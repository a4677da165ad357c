"""One version of a task answers at most, and none that has lost its certificate ever again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Refusal, RefusalReason
from stillhouse.core.serving import Change, Mode, PolicyEvent
from stillhouse.routing import lifecycle
from stillhouse.routing.cascade import shadow_coin
from stillhouse.routing.lifecycle import MONITOR, in_canary, serving, standings, watched

LEVELS = (0.95, 0.9, 0.85, 0.8, 0.8, 0.7)
REFUSED = Refusal(RefusalReason.TOO_FEW_ROWS, "60 calibration rows are too few.")


def proof(version: int, threshold: float = 0.8) -> Certificate:
    return Certificate("d", threshold, 0.05, 0.95, 0.03, version, 500, 300, 3, "e", "data")


class Task:
    """The events of a task so far, and a clock that goes a second on with each."""

    def __init__(self) -> None:
        self.events: list[PolicyEvent] = []

    def do(
        self, verb: Callable[..., PolicyEvent], version: int, *given: object, **facts: Any
    ) -> PolicyEvent:
        facts = {"why": "said so", "who": "ana", "task": "desk"} | facts
        event = verb(self.events, version, *given, at_us=len(self.events), **facts)
        self.events.append(event)
        return event

    def promote(self, version: int, **facts: Any) -> PolicyEvent:
        return self.do(lifecycle.promote, version, proof(version), **facts)

    def mode(self, version: int) -> Mode:
        return standings(self.events)[version].mode

    @property
    def answers(self) -> int | None:
        standing = serving(self.events)
        return standing.version if standing else None


@pytest.fixture
def task() -> Task:
    return Task()


def test_a_version_is_watched_until_it_is_promoted(task: Task) -> None:
    task.do(lifecycle.shadow, 1)
    assert (watched(task.events), task.answers) == ((1,), None)
    task.do(lifecycle.certify, 1, proof(1))
    assert (watched(task.events), task.answers) == ((1,), None)
    task.promote(1, share=0.1, keys=["key-a"])
    standing = serving(task.events)
    assert standing is not None
    assert (standing.threshold, standing.share, standing.keys) == (0.8, 0.1, ("key-a",))
    assert (watched(task.events), standing.since_us, standing.why) == ((), 2, "said so")


def test_a_canary_is_widened_by_promoting_again(task: Task) -> None:
    task.promote(1, share=0.1, keys=["key-a"])
    task.promote(1)
    standing = serving(task.events)
    assert standing is not None
    assert (standing.share, standing.keys) == (1.0, ())


def test_a_pause_keeps_the_threshold_and_a_raise_outlives_it(task: Task) -> None:
    task.promote(1)
    task.do(lifecycle.raise_level, 1, LEVELS)
    task.do(lifecycle.pause, 1)
    assert task.answers is None
    assert standings(task.events)[1].threshold == 0.85
    task.do(lifecycle.resume, 1)
    assert task.answers == 1
    assert standings(task.events)[1].threshold == 0.85
    task.promote(1)
    assert standings(task.events)[1].threshold == 0.85, "a promotion never undoes an alarm"


@pytest.mark.parametrize("paused", [False, True])
def test_a_new_version_supersedes_and_its_rollback_brings_nothing_back(
    task: Task, paused: bool
) -> None:
    task.promote(1)
    if paused:
        task.do(lifecycle.pause, 1)
    task.promote(2)
    assert (task.answers, task.mode(1)) == (2, Mode.STOPPED)
    assert standings(task.events)[1].why == "superseded by version 2"
    task.do(lifecycle.rollback, 2)
    assert (task.answers, task.mode(1), task.mode(2)) == (None, Mode.STOPPED, Mode.STOPPED)
    task.promote(1, why="version 1 was good")
    assert task.answers == 1


def test_what_a_person_stopped_a_person_may_promote_and_the_monitor_may_not(task: Task) -> None:
    task.promote(1)
    task.do(lifecycle.rollback, 1)
    with pytest.raises(CallerError, match=r"promote without a person's word version 1 of desk"):
        task.promote(1, who=MONITOR)
    task.promote(1, why="it was a false alarm")
    assert task.answers == 1


def test_without_a_reason_nothing_happens(task: Task) -> None:
    with pytest.raises(CallerError, match=r"why is ' '; say who decides and why"):
        task.promote(1, why=" ")


@pytest.mark.parametrize(
    ("verb", "who"),
    [(lifecycle.rollback, MONITOR), (lifecycle.void, "ana"), (lifecycle.retire, "ana")],
    ids=["rolled back by the monitor", "voided", "retired"],
)
def test_a_lost_certificate_never_comes_back(
    task: Task, verb: Callable[..., PolicyEvent], who: str
) -> None:
    task.promote(1)
    task.do(verb, 1, who=who)
    assert task.answers is None
    tries: list[Callable[[], object]] = [
        lambda: task.promote(1),
        lambda: task.do(lifecycle.shadow, 1),
        lambda: task.do(lifecycle.certify, 1, proof(1)),
    ]
    for again in tries:
        with pytest.raises(CallerError, match=r"version 1 of desk, which was .* for good"):
            again()
    task.promote(2)
    assert task.answers == 2


def test_a_voided_version_that_was_superseded_stays_void(task: Task) -> None:
    task.promote(1)
    task.promote(2)
    task.do(lifecycle.void, 1)
    assert (task.answers, standings(task.events)[1].threshold) == (2, None)
    with pytest.raises(CallerError, match="voided by ana"):
        task.promote(1)


def test_an_alarm_raises_once_and_then_rolls_back(task: Task) -> None:
    task.promote(1)
    first = task.do(lifecycle.raise_level, 1, LEVELS, who=MONITOR)
    assert (first.event, first.detail) == ("raised", {"threshold": 0.85, "queue": True})
    second = task.do(lifecycle.raise_level, 1, LEVELS, who=MONITOR)
    assert (second.event, second.detail, task.answers) == ("rolled_back", {"queue": True}, None)


def test_at_the_strictest_level_an_alarm_rolls_back(task: Task) -> None:
    task.do(lifecycle.promote, 1, proof(1, 0.95))
    assert task.do(lifecycle.raise_level, 1, LEVELS).event == "rolled_back"


@pytest.mark.parametrize("certificate", [None, REFUSED, proof(7)])
def test_without_the_certificate_of_this_version_nothing_is_promoted(
    task: Task, certificate: Certificate | Refusal | None
) -> None:
    with pytest.raises(CallerError, match=r"version 1 of .* has no certificate: .*; distil"):
        task.do(lifecycle.promote, 1, certificate)


@pytest.mark.parametrize("threshold", [0.79, float("nan")])
def test_a_looser_threshold_than_the_certified_one_is_refused(task: Task, threshold: float) -> None:
    with pytest.raises(CallerError, match="where its certificate begins"):
        task.promote(1, threshold=threshold)
    task.promote(1, threshold=0.9)
    assert standings(task.events)[1].threshold == 0.9


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_of_nothing_or_more_than_all_is_refused(task: Task, share: float) -> None:
    with pytest.raises(CallerError, match="give more than 0 and at most 1"):
        task.promote(1, share=share)


def test_what_cannot_follow_is_refused_with_how_things_stand(task: Task) -> None:
    for verb in (lifecycle.pause, lifecycle.resume, lifecycle.rollback, lifecycle.retire):
        with pytest.raises(CallerError, match=r"which was never at work.*none was ever"):
            task.do(verb, 1)
    task.do(lifecycle.shadow, 1)
    task.promote(2)
    for verb, version in ((lifecycle.pause, 1), (lifecycle.shadow, 2), (lifecycle.resume, 2)):
        with pytest.raises(CallerError, match="version 1 is shadow, version 2 is serving"):
            task.do(verb, version)


def test_the_first_event_needs_the_name_of_its_task_and_later_ones_do_not() -> None:
    with pytest.raises(ValueError, match="give task"):
        lifecycle.shadow([], 1, why="new", who="ana", at_us=1)
    first = lifecycle.shadow([], 1, why="new", who="ana", at_us=1, task="desk")
    assert lifecycle.retire([first], 1, why="old", who="ana", at_us=2).task == "desk"


def test_events_of_before_details_were_kept_leave_no_threshold() -> None:
    old = PolicyEvent("desk", 1, "promoted", "certified", "ana", 1)
    standing = serving([old])
    assert standing is not None
    assert (standing.threshold, standing.share) == (None, 1.0)


def anything(task: Task, change: Change, version: int, who: str) -> None:
    certificate = proof(version, 0.7 + version / 100)
    verbs: dict[Change, tuple[Callable[..., PolicyEvent], Sequence[object]]] = {
        Change.SHADOWED: (lifecycle.shadow, ()),
        Change.CERTIFIED: (lifecycle.certify, (certificate,)),
        Change.PROMOTED: (lifecycle.promote, (certificate,)),
        Change.PAUSED: (lifecycle.pause, ()),
        Change.RESUMED: (lifecycle.resume, ()),
        Change.RAISED: (lifecycle.raise_level, (LEVELS,)),
        Change.ROLLED_BACK: (lifecycle.rollback, ()),
        Change.VOIDED: (lifecycle.void, ()),
        Change.RETIRED: (lifecycle.retire, ()),
    }
    verb, given = verbs[change]
    try:
        task.do(verb, version, *given, who=who)
    except CallerError:
        assert verb is not lifecycle.promote or version in standings(task.events)


STEPS = st.lists(
    st.tuples(st.sampled_from(Change), st.integers(1, 3), st.sampled_from(["ana", MONITOR])),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_one_version_answers_at_most_and_never_below_its_certificate(
    steps: list[tuple[Change, int, str]],
) -> None:
    task = Task()
    lost: set[int] = set()
    for step in steps:
        anything(task, *step)
        for event in task.events[-1:]:
            if event.event in ("voided", "retired") or (
                event.event == "rolled_back" and event.who == MONITOR
            ):
                lost.add(event.version)
        stood = standings(task.events)
        seated = [v for v, one in stood.items() if one.mode in (Mode.SERVING, Mode.PAUSED)]
        assert len(seated) <= 1
        assert not lost & set(seated)
        assert not lost & set(watched(task.events))
        for version in seated:
            assert (stood[version].threshold or 0) >= 0.7 + version / 100
        assert standings(iter(task.events)) == stood


def test_the_canary_is_drawn_independently_of_the_audit() -> None:
    names = [f"{n:032x}" for n in range(20_000)]
    canary = [in_canary(name, b"key", 0.3) for name in names]
    coin = [shadow_coin(name, b"key", 0.3) for name in names]
    assert sum(canary) / len(names) == pytest.approx(0.3, abs=0.015)
    both = sum(a and b for a, b in zip(canary, coin, strict=True))
    assert both / len(names) == pytest.approx(0.09, abs=0.01)


def test_a_wider_canary_holds_all_of_a_narrower_one_and_another_key_draws_anew() -> None:
    names = [str(n) for n in range(2000)]
    narrow = {name for name in names if in_canary(name, b"key", 0.1)}
    assert narrow < {name for name in names if in_canary(name, b"key", 0.2)}
    assert narrow != {name for name in names if in_canary(name, b"other", 0.1)}
    assert all(in_canary(name, b"key", 1.0) for name in names)
    assert not any(in_canary(name, b"key", 0.0) for name in names)


def test_who_only_routes_loads_no_arrays() -> None:
    script = (
        "import sys, stillhouse.routing.lifecycle, stillhouse.routing.admission\n"
        "print([name for name in ('numpy', 'scipy') if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert told.stdout.decode().strip() == "[]"

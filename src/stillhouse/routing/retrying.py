"""Retries and fallbacks: a plan that says what to try next and is told what came of it.

The shape of the cascade: neither sync nor async. The driver makes each call, or waits, and reports;
the time and chance come from it.

>>> from stillhouse.core.calls import Fate
>>> from stillhouse.core.catalogue import Catalogue, Deployment, Route
>>> route = Route("chat", (Deployment("acme", "m"), Deployment("zeta", "m")))
>>> plan = Plan(route, Catalogue({}, {}), Health(), lambda: 0.0, lambda: 0.0)
>>> plan.begin()
Try(deployment=Deployment(upstream='acme', ...), kind=<AttemptKind.TEACHER: 'teacher'>)
>>> plan.after(Outcome(Fate.REFUSED))
Try(deployment=Deployment(upstream='zeta', ...), kind=<AttemptKind.RETRY: 'retry'>)
>>> print(plan.after(Outcome(Fate.OK, 200)))
None
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Catalogue, Deployment, Route
from stillhouse.core.nouns import Noun
from stillhouse.core.traffic import AttemptKind
from stillhouse.routing.balance import choose
from stillhouse.routing.health import Health
from stillhouse.routing.outcomes import Outcome, Retry, retry_of


class Try(Noun, frozen=True):
    """Call this; then say what came of it with `after`."""

    deployment: Deployment
    kind: AttemptKind


class Wait(Noun, frozen=True):
    """Wait so long; then ask what to try with `go_on`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Terms:
    """How patient and how generous retrying is; spans are seconds.

    The n-th wait is drawn evenly from nothing to `shortest_seconds` times 2**n, on top of what the
    upstream asked for, and is never longer than `longest_seconds`. Nothing new is begun
    `total_seconds` after the first call. `pay_twice` allows another call after one that timed out
    or broke off within its answer: the upstream has very likely billed that.
    """

    shortest_seconds: float = 0.5
    longest_seconds: float = 20.0
    total_seconds: float = 600.0
    pay_twice: bool = False


TERMS = Terms()
_OK, _TEACHER = Fate.OK, AttemptKind.TEACHER  # members of an enumeration are dear to look up
_NOT_HEARD = Outcome(Fate.INTERRUPTED)
"""What comes of a call that is given up: nothing that speaks for or against its upstream."""


class Plan:
    """Plans the calls of one request; the caller gets the answer of the last.

    Every outcome is told, good ones too, because health is kept up here. Another deployment of the
    route is preferred over waiting, then the fallbacks' in order; only when all that can be reached
    has failed is one of them tried again after a wait. Once the caller has seen a byte nothing is
    tried again. `max_attempts` counts all calls. Where every breaker is open, the one that opens
    soonest is tried, since an untried call is as lost as a failed one.
    """

    __slots__ = (
        "_began",
        "_catalogue",
        "_draw",
        "_first",
        "_following",
        "_health",
        "_route",
        "_seconds",
        "_terms",
    )

    def __init__(
        self,
        route: Route,
        catalogue: Catalogue,
        health: Health,
        draw: Callable[[], float],
        seconds: Callable[[], float],
        terms: Terms = TERMS,
    ) -> None:
        self._route, self._catalogue, self._health = route, catalogue, health
        self._draw, self._seconds, self._terms = draw, seconds, terms
        self._first: Deployment | None = None  # as long as it is under way
        self._following: Generator[Try | Wait, Outcome | None, None] | None = None

    def begin(self) -> Try:
        """What to call first; most requests need no more, and so no plan of what follows."""
        route, health = self._route, self._health
        self._began = now = self._seconds()
        if health.calm:  # nearly always: one of the route's own, found without looking further
            deployments = route.deployments
            if len(deployments) == 1:
                step = Try(deployments[0], _TEACHER)
            else:
                chosen = choose(deployments, route.balance, health, now, self._draw())
                step = Try(chosen, _TEACHER)
        else:
            step = _first_of_the_well(route, self._catalogue, health, now, self._draw)
        self._first = step.deployment
        health.began(step.deployment, now)
        return step

    def after(self, outcome: Outcome) -> Try | Wait | None:
        """What to do after an outcome; None where that one is what the caller gets."""
        following, first = self._following, self._first
        if following is not None:
            try:
                return following.send(outcome)
            except StopIteration:
                return None
        if first is None:
            raise RuntimeError("nothing is under way that could have an outcome")
        now, self._first = self._seconds(), None
        self._health.ended(first, outcome, self._began, now)
        if outcome.fate is _OK:
            return None
        self._following = _following(
            (first, outcome, self._began, now),
            self._route,
            self._catalogue,
            self._health,
            self._draw,
            self._seconds,
            self._terms,
        )
        return next(self._following, None)

    def go_on(self) -> Try:
        """What to try after a Wait."""
        assert self._following is not None
        step = next(self._following)
        assert isinstance(step, Try)
        return step

    def close(self) -> None:
        """Give the call up that is under way, if one is: it says nothing of its upstream."""
        if self._first is not None:
            self._health.ended(self._first, _NOT_HEARD, self._began, self._seconds())
            self._first = None
        if self._following is not None:
            self._following.close()


def _following(
    first: tuple[Deployment, Outcome, float, float],
    route: Route,
    catalogue: Catalogue,
    health: Health,
    draw: Callable[[], float],
    seconds: Callable[[], float],
    terms: Terms,
) -> Generator[Try | Wait, Outcome | None, None]:
    """Plan what follows a first call: where it went, what came of it, when it began and ended."""
    deployment, outcome, began, now = first
    deadline = began + terms.total_seconds
    failed: dict[tuple[str, str], tuple[Retry, float]] = {}
    made, waits = 1, 0
    while outcome.fate is not _OK:
        again = retry_of(outcome)
        if again is Retry.COSTLY:
            again = Retry.ANYWHERE if terms.pay_twice else Retry.NOWHERE
        if again is Retry.NOWHERE or made >= route.max_attempts or now >= deadline:
            break
        free_at = now + (outcome.retry_after_seconds or 0.0)
        failed[deployment.upstream, deployment.model] = again, free_at
        options = _options(route, catalogue)
        fresh = _fresh(options, failed, health, now, draw)
        if fresh is None:
            pause = _pause(options, failed, health, now)
            if pause is None or pause > terms.longest_seconds:
                break
            pause += draw() * terms.shortest_seconds * 2.0 ** min(waits, 16)
            pause = min(pause, terms.longest_seconds)
            waits += 1
            if now + pause >= deadline:
                break
            yield Wait(pause)
            now = seconds()
            fresh = _fresh(options, failed, health, now, draw)
            fresh = fresh or _soonest(options, failed, health, now)
        made += 1
        deployment = fresh.deployment
        health.began(deployment, now)
        said: Outcome | None = None
        try:
            said = yield fresh
        finally:
            began, now = now, seconds()
            health.ended(deployment, said or _NOT_HEARD, began, now)
        if said is None:
            raise TypeError("a Try is answered by an Outcome")
        outcome = said


def hedge(route: Route, health: Health, running: Deployment, now: float, draw: float) -> Try | None:
    """The second call of a hedged route, to be made `hedge_after_seconds` after the first.

    None where hedging is off, or where one call is all that the route allows. Another deployment
    that is well, else the same one. The driver takes the first good answer, cancels the other, and
    books both; it reports this one's health itself, with `began` and `ended`.
    """
    if route.hedge_after_seconds is None or route.max_attempts < 2:
        return None
    others = [d for d in route.deployments if d != running and health.admits(d, now)]
    if others:
        return Try(choose(others, route.balance, health, now, draw), AttemptKind.HEDGE)
    return Try(running, AttemptKind.HEDGE) if health.admits(running, now) else None


def _first_of_the_well(
    route: Route, catalogue: Catalogue, health: Health, now: float, draw: Callable[[], float]
) -> Try:
    options = _options(route, catalogue)
    fresh = _fresh(options, {}, health, now, draw)
    if fresh is not None:
        return fresh
    kind, least = min(
        (
            (_kind(place, 0), one)
            for place, option in enumerate(options)
            for one in option.deployments
        ),
        key=lambda kind_and_one: health.opens_at(kind_and_one[1]),
    )
    return Try(least, kind)


def _options(route: Route, catalogue: Catalogue) -> list[Route]:
    """The route and its fallbacks, in order; a fallback's own fallbacks are not followed."""
    others = (catalogue.routes.get(name) for name in route.fallbacks)
    return [route, *(other for other in others if other is not None)]


def _kind(place: int, made: int) -> AttemptKind:
    if place:
        return AttemptKind.FALLBACK
    return AttemptKind.RETRY if made else AttemptKind.TEACHER


_Failed = dict[tuple[str, str], tuple[Retry, float]]


def _fresh(
    options: Sequence[Route],
    failed: _Failed,
    health: Health,
    now: float,
    draw: Callable[[], float],
) -> Try | None:
    """One that has not been tried for this request and that is well."""
    for place, option in enumerate(options):
        fit = [
            one
            for one in option.deployments
            if (one.upstream, one.model) not in failed and health.admits(one, now)
        ]
        if fit:
            chosen = choose(fit, option.balance, health, now, draw())
            return Try(chosen, _kind(place, len(failed)))
    return None


def _pause(options: Sequence[Route], failed: _Failed, health: Health, now: float) -> float | None:
    """How long until the soonest may be called, in seconds; None where no call can help."""
    times = [
        max(free_at, health.opens_at(one), now) for _, one, free_at in _hopeful(options, failed)
    ]
    return min(times) - now if times else None


def _soonest(options: Sequence[Route], failed: _Failed, health: Health, now: float) -> Try:
    """The one that was waited for, tried again: it is free, or was to be the soonest."""

    def comes(candidate: tuple[int, Deployment, float]) -> tuple[bool, float]:
        _, one, free_at = candidate
        return not health.admits(one, now), max(free_at, health.opens_at(one))

    place, one, _ = min(_hopeful(options, failed), key=comes)
    return Try(one, _kind(place, 1))


def _hopeful(options: Sequence[Route], failed: _Failed) -> list[tuple[int, Deployment, float]]:
    """Those that may do better another time, with the place of their route and when they may."""
    hopeful = []
    for place, option in enumerate(options):
        for one in option.deployments:
            retry, free_at = failed.get((one.upstream, one.model), (Retry.ANYWHERE, 0.0))
            if retry is Retry.ANYWHERE:
                hopeful.append((place, one, free_at))
    return hopeful

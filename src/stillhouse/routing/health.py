"""How the upstreams are: a circuit breaker and a latency for each model at each upstream.

Has no clock of its own: every question and every report brings the time (in seconds of any clock
that only moves forward), so the same calls in the same order leave the same health.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import exp
from typing import NamedTuple

from stillhouse.core.catalogue import Deployment
from stillhouse.routing.outcomes import Outcome, Sign, sign_of

_Key = tuple[str, str]
_MOST_CIRCUITS = 4096
_WELL = Sign.WELL  # a member of an enumeration is dear to look up


class BreakerState(StrEnum):
    """Whether calls go through: all, none, or one to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a breaker opens, and for how long; all spans are seconds.

    It opens after `failures_in_a_row`, or once `failure_share` of at least `least_calls` has
    failed; calls count less the longer they are ago, by a factor of e each `window_seconds`. It
    stays open for `open_seconds`, twice as long each time that the probe fails, and as long as the
    upstream asks for; `wrong_key_seconds` after a key is refused. A probe that nothing is heard of
    for `probe_seconds` is given up. Latency is averaged over `latency_seconds`, and where nothing
    is called forgotten over `forgotten_seconds`.
    """

    failures_in_a_row: int = 5
    failure_share: float = 0.5
    least_calls: float = 20.0
    window_seconds: float = 30.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    wrong_key_seconds: float = 60.0
    longest_told_seconds: float = 600.0
    probe_seconds: float = 30.0
    latency_seconds: float = 10.0
    forgotten_seconds: float = 60.0


class _Circuit:
    """State of one model at one upstream; `until` is 0 while it is closed."""

    __slots__ = (
        "calls",
        "failures",
        "heard_at",
        "in_a_row",
        "in_flight",
        "latency",
        "latency_at",
        "opened_at",
        "probed_at",
        "trips",
        "until",
    )

    def __init__(self) -> None:
        self.in_flight = self.in_a_row = self.trips = 0
        self.calls = self.failures = self.heard_at = 0.0
        self.latency = -1.0
        self.latency_at = self.opened_at = self.until = 0.0
        self.probed_at: float | None = None


class Standing(NamedTuple):
    """How one model at one upstream is; `model` is empty for the upstream as a whole."""

    upstream: str
    model: str
    state: BreakerState
    in_flight: int
    latency_seconds: float | None


class Health:
    """What is known of every model at every upstream, kept up by reports of calls.

    >>> from stillhouse.core.calls import Fate
    >>> health, model = Health(Limits(failures_in_a_row=2)), Deployment("acme", "m")
    >>> for at in (0.0, 1.0):
    ...     health.began(model, at)
    ...     health.ended(model, Outcome(Fate.REFUSED), at, at)
    >>> health.admits(model, 2.0), health.admits(model, 6.5)
    (False, True)
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._circuits: dict[_Key, _Circuit] = {}
        self._upset: set[_Key] = set()
        self.calm = True
        """Whether every breaker is closed: then nobody needs to be asked one by one."""

    def began(self, deployment: Deployment, now: float) -> None:
        """A call goes out; through a half-open breaker it is the probe."""
        key = (deployment.upstream, deployment.model)
        (self._circuits.get(key) or self._circuit(key)).in_flight += 1
        if self._upset:
            for one in (key, (key[0], "")):
                if one in self._upset:
                    self._circuits[one].probed_at = now

    def ended(self, deployment: Deployment, outcome: Outcome, began: float, now: float) -> None:
        """A call that went out at `began` has ended.

        What went out before a breaker opened neither closes it nor keeps it open: it speaks of
        times gone by.
        """
        key = (deployment.upstream, deployment.model)
        circuit = self._circuits.get(key) or self._circuit(key)
        circuit.in_flight -= 1
        sign = sign_of(outcome)
        if sign is _WELL:
            heard = outcome.first_byte_seconds
            self._count(circuit, now, now - began if heard is None else heard)
            circuit.in_a_row = 0
            if self._upset:
                self._close(key, began)
                self._close((key[0], ""), began)
        elif sign is Sign.NONE:
            self._release(key, began)
        else:
            self._fail(key, circuit, outcome, sign, began, now)

    def admits(self, deployment: Deployment, now: float) -> bool:
        """Whether a call may go there: the breaker is closed, or half open and not yet probed."""
        if not self._upset:
            return True
        key = (deployment.upstream, deployment.model)
        return self._lets(key, now) and self._lets((key[0], ""), now)

    def opens_at(self, deployment: Deployment) -> float:
        """When a call may go there again; a time gone by where it may at once."""
        key = (deployment.upstream, deployment.model)
        both = [self._circuits[one].until for one in (key, (key[0], "")) if one in self._upset]
        return max(both, default=0.0)

    def load(self, deployment: Deployment, now: float) -> float:
        """How long a further call is likely to wait there, in seconds: latency times the queue.

        One that has not been heard yet comes first, with one call at a time until it has.
        """
        circuit = self._circuits.get((deployment.upstream, deployment.model))
        if circuit is None:
            return 0.0
        if circuit.latency < 0:
            return float(circuit.in_flight)
        faded = exp((circuit.latency_at - now) / self._limits.forgotten_seconds)
        return circuit.latency * faded * (circuit.in_flight + 1)

    def standings(self, now: float) -> list[Standing]:
        """How everything that was ever called is, for those who watch."""
        return [
            Standing(
                upstream,
                model,
                self._state((upstream, model), now),
                circuit.in_flight,
                circuit.latency if circuit.latency >= 0 else None,
            )
            for (upstream, model), circuit in sorted(self._circuits.items())
        ]

    def _circuit(self, key: _Key) -> _Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            if len(self._circuits) >= _MOST_CIRCUITS:  # callers may name any model of a pattern
                busy = {k: c for k, c in self._circuits.items() if c.in_flight or k in self._upset}
                self._circuits = busy
            circuit = self._circuits[key] = _Circuit()
        return circuit

    def _state(self, key: _Key, now: float) -> BreakerState:
        if key not in self._upset:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._circuits[key].until else BreakerState.HALF_OPEN

    def _lets(self, key: _Key, now: float) -> bool:
        if key not in self._upset:
            return True
        circuit = self._circuits[key]
        if now < circuit.until:
            return False
        probed = circuit.probed_at
        return probed is None or now - probed >= self._limits.probe_seconds

    def _count(self, circuit: _Circuit, now: float, seconds: float | None = None) -> None:
        """Count a call; of one that was answered learn how long it took."""
        kept = exp((circuit.heard_at - now) / self._limits.window_seconds)
        circuit.calls = circuit.calls * kept + 1.0
        circuit.failures *= kept
        circuit.heard_at = now
        if seconds is None:
            return
        if circuit.latency < 0:
            circuit.latency = seconds
        else:
            kept = exp((circuit.latency_at - now) / self._limits.latency_seconds)
            kept = min(kept, 0.9)  # many answers at one instant must be heard too
            circuit.latency += (1 - kept) * (seconds - circuit.latency)
        circuit.latency_at = now

    def _fail(
        self,
        key: _Key,
        circuit: _Circuit,
        outcome: Outcome,
        sign: Sign,
        began: float,
        now: float,
    ) -> None:
        limits = self._limits
        self._count(circuit, now)
        circuit.failures += 1.0
        circuit.in_a_row += 1
        if sign is Sign.BUSY:
            told = outcome.retry_after_seconds or 0.0
            self._open(key, min(told, limits.longest_told_seconds), now)
        elif sign in (Sign.WRONG_KEY, Sign.SHUT):
            whole = (key[0], "") if sign is Sign.WRONG_KEY else key
            self._open(whole, limits.wrong_key_seconds, now)
        elif self._again_ill(key, circuit, began) or self._too_many(key, circuit):
            doubled = limits.open_seconds * 2.0 ** min(circuit.trips, 16)
            circuit.trips += 1
            self._open(key, min(doubled, limits.longest_open_seconds), now)

    def _again_ill(self, key: _Key, circuit: _Circuit, began: float) -> bool:
        return key in self._upset and began >= circuit.opened_at

    def _too_many(self, key: _Key, circuit: _Circuit) -> bool:
        if key in self._upset:
            return False
        limits = self._limits
        return circuit.in_a_row >= limits.failures_in_a_row or (
            circuit.calls >= limits.least_calls
            and circuit.failures >= limits.failure_share * circuit.calls
        )

    def _open(self, key: _Key, seconds: float, now: float) -> None:
        circuit = self._circuit(key)
        circuit.until = max(circuit.until, now + seconds)
        circuit.opened_at = now
        circuit.probed_at = None
        self._upset.add(key)
        self.calm = False

    def _close(self, key: _Key, began: float) -> None:
        if key not in self._upset or began < self._circuits[key].opened_at:
            return
        circuit = self._circuits[key]
        circuit.until = circuit.calls = circuit.failures = 0.0
        circuit.trips = circuit.in_a_row = 0
        circuit.probed_at = None
        self._upset.discard(key)
        self.calm = not self._upset

    def _release(self, key: _Key, began: float) -> None:
        """A probe that says nothing, such as one whose caller left, makes room for another."""
        for one in (key, (key[0], "")):
            if one in self._upset and self._circuits[one].probed_at == began:
                self._circuits[one].probed_at = None

"""What every version of every task was promised, how it stands, and what it has shown since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.serving import Charter, Evidence, PolicyEvent, Promise, Standing, Terms
from stillhouse.flows.evidence import serving_since
from stillhouse.flows.judging import Judge
from stillhouse.flows.steering import Version
from stillhouse.risk.budget import promise
from stillhouse.routing import lifecycle


class Figures(Protocol):
    """What a version did so far."""

    @property
    def version(self) -> int:
        """Whose figures these are."""
        ...

    @property
    def consulted(self) -> int:
        """Requests that it was asked about."""
        ...

    @property
    def accepted(self) -> int:
        """Requests that it answered."""
        ...

    @property
    def shadows_waiting(self) -> int:
        """Audits that are still to be asked."""
        ...

    @property
    def avoided_pico(self) -> int:
        """What its answers would have cost."""
        ...

    @property
    def shadow_pico(self) -> int:
        """What its audits cost."""
        ...


class HoldingBooks(Protocol):
    """What is read."""

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers, oldest first."""
        ...

    def charters(self) -> tuple[Charter, ...]:
        """The charters of all versions."""
        ...

    def versions(self, task: str) -> Sequence[Version]:
        """Every version of a task with its newest verdict."""
        ...

    def evidence(self, task: str, version: int, after: int = 0) -> Iterator[Evidence]:
        """A version's audited rows in the order of their stream."""
        ...

    def serving_figures(self, task: str) -> Sequence[Figures]:
        """What the versions of a task did so far."""
        ...


@dataclass(frozen=True, slots=True)
class Holding:
    """One version: what was promised of it, how it stands, and what it has shown.

    `rows` are those of its evidence; of them `audited` were answers that callers were given, and
    `agreed` of these were the teacher's too. `alarm_share` is how far the watch on drift is on its
    way to an alarm: 1 is one; None while it serves nobody. `rows` is None where the evidence was
    not read. `standing` is None before it was put anywhere.
    """

    charter: Charter
    verdict: Certificate | Refusal | None
    standing: Standing | None
    promise: Promise
    rows: int | None = None
    audited: int = 0
    agreed: int = 0
    alarm_share: float | None = None
    figures: Figures | None = None
    events: tuple[PolicyEvent, ...] = field(default=(), repr=False)

    @property
    def accept_rate(self) -> float | None:
        """Share of the requests it was asked about that it answered; None where it was not."""
        figures = self.figures
        return figures.accepted / figures.consulted if figures and figures.consulted else None


def holdings(
    books: HoldingBooks,
    terms_of: Callable[[str], Terms],
    task: str = "",
    *,
    evidence: bool = True,
) -> list[Holding]:
    """Every version with a charter, by task and version; those of one task where it is named.

    Without `evidence` the audited rows are not read, of which there may be many.
    """
    charters = [one for one in books.charters() if not task or one.task == task]
    found = []
    for name in dict.fromkeys(one.task for one in charters):
        events = list(books.policy_events(name))
        stood = lifecycle.standings(events)
        verdicts = {one.version: one.verdict for one in books.versions(name)}
        figures = {one.version: one for one in books.serving_figures(name)}
        for charter in charters:
            if charter.task == name:
                version = charter.version
                found.append(
                    _holding(
                        charter,
                        list(books.evidence(name, version)) if evidence else None,
                        stood.get(version),
                        verdicts.get(version),
                        figures.get(version),
                        events,
                        terms_of(name),
                    )
                )
    return found


def _holding(
    charter: Charter,
    evidence: Sequence[Evidence] | None,
    standing: Standing | None,
    verdict: Certificate | Refusal | None,
    figures: Figures | None,
    history: Sequence[PolicyEvent],
    terms: Terms,
) -> Holding:
    served = [row for row in evidence or () if row.served]
    alarm_share = None
    if evidence is not None and standing is not None and standing.threshold is not None:
        judge = Judge(charter, standing, terms, serving_since(history, charter.version))
        judge.take(evidence)
        alarm_share = judge.level
    return Holding(
        charter=charter,
        verdict=verdict,
        standing=standing,
        promise=promise(charter.task, charter.version, charter.target, charter.delta),
        rows=None if evidence is None else len(evidence),
        audited=len(served),
        agreed=sum(not row.disagrees for row in served),
        alarm_share=alarm_share,
        figures=figures,
        events=tuple(one for one in history if one.version == charter.version),
    )


def expected_false(found: Iterable[Holding]) -> float:
    """How many of these certificates may be expected to be wrong, at most: their deltas' sum."""
    return sum(one.charter.delta for one in found)


def facts(holding: Holding) -> dict[str, object]:
    """A version as plain values; amounts of money are exact decimal text."""
    standing, verdict, promised = holding.standing, holding.verdict, holding.promise
    certificate = verdict if isinstance(verdict, Certificate) else None
    said: dict[str, object] = {
        "task": promised.task,
        "version": promised.version,
        "mode": None if standing is None else standing.mode.value,
        "threshold": None if standing is None else standing.threshold,
        "share": None if standing is None else standing.share,
        "keys": [] if standing is None else list(standing.keys),
        "max_risk": promised.max_risk,
        "confidence": promised.confidence,
        "delta": promised.delta,
        "budget_left": promised.left,
        "calibration_rows": None if certificate is None else certificate.n_calibration,
        "refusal": verdict.sentence if isinstance(verdict, Refusal) else None,
        "accept_rate": holding.accept_rate,
    }
    if holding.rows is not None:
        said |= {
            "evidence_rows": holding.rows,
            "audited": holding.audited,
            "agreed": holding.agreed,
            "alarm_share": holding.alarm_share,
        }
    return {**said, **_money(holding.figures)}


def _money(figures: Figures | None) -> Mapping[str, object]:
    if figures is None:
        return {"consulted": 0, "accepted": 0, "shadows_waiting": 0} | dict.fromkeys(
            ("avoided_usd", "shadow_usd"), "0"
        )
    return {
        "consulted": figures.consulted,
        "accepted": figures.accepted,
        "shadows_waiting": figures.shadows_waiting,
        "avoided_usd": dollars_text(figures.avoided_pico),
        "shadow_usd": dollars_text(figures.shadow_pico),
    }


def dollars_text(pico: int) -> str:
    """Dollars exactly.

    >>> dollars_text(1_500_000_000_000), dollars_text(0)
    ('1.5', '0')
    """
    whole, rest = divmod(pico, 10**12)
    return f"{whole}.{rest:012}".rstrip("0").rstrip(".")


def event_facts(event: PolicyEvent) -> dict[str, object]:
    """A change as plain values."""
    return {
        "number": event.number,
        "task": event.task,
        "version": event.version,
        "event": event.event,
        "why": event.why,
        "who": event.who,
        "at_us": event.at_us,
        "detail": dict(event.detail),
    }

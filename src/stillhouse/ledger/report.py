"""Spend by model, task, team or day: totals and shares of sums that a store has grouped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stillhouse.core.money import Paid
from stillhouse.core.traffic import Evidence, weakest


@dataclass(frozen=True, slots=True)
class SpendSum:
    """The books of one group, summed. Amounts are in pico-USD.

    `n_unpriced` requests have at least one charge without a price; `billed_pico` is the computed
    cost of the others. `n_reported` requests carry the provider's own figure, in sum
    `reported_pico`. `tokens` counts every leaf, `unpriced_tokens` those in unpriced charges. The
    `both_*` fields sum the requests that are priced and reported: only these can be compared.
    """

    key: str
    n_requests: int
    n_unpriced: int = 0
    billed_pico: int = 0
    n_reported: int = 0
    reported_pico: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    unpriced_tokens: int = 0
    evidence: Evidence = Evidence.DERIVED
    n_both: int = 0
    both_billed_pico: int = 0
    both_reported_pico: int = 0


@dataclass(frozen=True, slots=True)
class SpendRow:
    """One line of the spend report; money is None where nothing is known, never 0."""

    key: str
    n_requests: int
    computed: Paid | None
    reported: Paid | None
    difference: Paid | None
    per_1000_requests: Paid | None
    unpriced_request_share: float
    unpriced_token_share: float
    tokens: Mapping[str, int]
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class SpendReport:
    """Rows by falling computed cost, and what they add up to."""

    by: str
    rows: tuple[SpendRow, ...]
    total: SpendRow


def spend_report(sums: Iterable[SpendSum], by: str) -> SpendReport:
    """Lay out the spend of all groups with their total; sums with the same key are joined.

    `by` names the grouping, as `model` or `day`. Cost per 1,000 requests is over the priced ones,
    the difference (computed less reported) over those that are both priced and reported.

    >>> report = spend_report([SpendSum("gpt-4o", 4, n_unpriced=1, billed_pico=6 * 10**9)], "model")
    >>> report.rows[0].per_1000_requests, report.total.unpriced_request_share
    (Paid('2' USD), 0.25)
    """
    grouped: dict[str, SpendSum] = {}
    total = SpendSum("total", 0, evidence=Evidence.REPORTED)
    for part in sums:
        total = _add(total, part)
        grouped[part.key] = _add(grouped[part.key], part) if part.key in grouped else part
    ordered = sorted(grouped.values(), key=lambda s: (-s.billed_pico, -s.n_requests, s.key))
    return SpendReport(by, tuple(map(_row, ordered)), _row(total))


def _add(one: SpendSum, other: SpendSum) -> SpendSum:
    return SpendSum(
        key=one.key,
        n_requests=one.n_requests + other.n_requests,
        n_unpriced=one.n_unpriced + other.n_unpriced,
        billed_pico=one.billed_pico + other.billed_pico,
        n_reported=one.n_reported + other.n_reported,
        reported_pico=one.reported_pico + other.reported_pico,
        tokens=dict(Counter(one.tokens) + Counter(other.tokens)),
        unpriced_tokens=one.unpriced_tokens + other.unpriced_tokens,
        evidence=weakest(one.evidence, other.evidence),
        n_both=one.n_both + other.n_both,
        both_billed_pico=one.both_billed_pico + other.both_billed_pico,
        both_reported_pico=one.both_reported_pico + other.both_reported_pico,
    )


def _row(part: SpendSum) -> SpendRow:
    n_priced = part.n_requests - part.n_unpriced
    computed = Paid(part.billed_pico) if n_priced else None
    n_tokens = sum(count for leaf, count in part.tokens.items() if leaf.endswith("_tokens"))
    difference = Paid(part.both_billed_pico - part.both_reported_pico) if part.n_both else None
    return SpendRow(
        key=part.key,
        n_requests=part.n_requests,
        computed=computed,
        reported=Paid(part.reported_pico) if part.n_reported else None,
        difference=difference,
        per_1000_requests=computed.times(1000, n_priced) if computed is not None else None,
        unpriced_request_share=_share(part.n_unpriced, part.n_requests),
        unpriced_token_share=_share(part.unpriced_tokens, n_tokens),
        tokens=part.tokens,
        evidence=part.evidence,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

"""How often student and teacher agree, for reports: intervals, never a gate."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from stillhouse.risk.evidence import exact_interval

PRIOR = 0.5
"""Both parameters of the mixing beta: half weights the ends, where agreements lie."""
FEWEST_OF_A_KIND = 10
"""Labels that agree, and that disagree, below which a normal approximation says nothing."""
_HALVINGS = 60


def agreement_sequence(agreed: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the agreement that may be printed after every row, for as long as one likes.

    With probability `confidence` the intervals after *all* n hold the true agreement, if each row
    agrees with the same chance given those before it. The interval holds all p whose likelihood is
    more than 1 - confidence times that of a beta mixture: under p that ratio is a martingale from 1
    (Ville). It is wider than an exact interval for a single look at a planned n.

    >>> low, high = agreement_sequence(970, 1000)
    >>> round(low, 3), round(high, 3)
    (0.946, 0.986)
    >>> agreement_sequence(0, 0)
    (0.0, 1.0)
    """
    if not 0 <= agreed <= n:
        raise ValueError(f"{agreed} of {n} rows agree; give a count from 0 to the rows")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share between 0 and 1, as 0.95")
    share = agreed / n if n else 0.5
    bar = -math.log1p(-confidence)
    low = _edge(agreed, n, bar, inside=share, outside=0.0)
    high = _edge(agreed, n, bar, inside=share, outside=1.0)
    return low, high


def _edge(agreed: int, n: int, bar: float, inside: float, outside: float) -> float:
    """Where the evidence against a share crosses the bar between two shares, to the outside."""
    if _log_evidence(outside, agreed, n) < bar:
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _log_evidence(middle, agreed, n) < bar:
            inside = middle
        else:
            outside = middle
    return outside


def _log_evidence(share: float, agreed: int, n: int) -> float:
    """Log of the beta mixture's likelihood over that of `share`: convex, least at agreed / n."""
    against = n - agreed
    mixture = _log_beta(agreed + PRIOR, against + PRIOR) - _log_beta(PRIOR, PRIOR)
    return mixture - _times_log(agreed, share) - _times_log(against, 1 - share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: int, share: float) -> float:
    if not count:
        return 0.0
    return count * math.log(share) if share > 0 else -math.inf


def powered_interval(
    agreed: npt.ArrayLike,
    scores: npt.ArrayLike,
    unlabelled_scores: npt.ArrayLike,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of the agreement over all rows, from few audited ones and the scores of many more.

    PPI++ (Angelopoulos et al. 2023): the mean score of the rows that nobody audited, corrected by
    what the audited ones (`agreed`, `scores`) show of it, and weighted so that useless scores do no
    harm. The audited rows must be drawn by the coin alone. Asymptotic and for one look. With fewer
    than ten agreements or disagreements it is the exact interval of the audited rows.

    >>> low, high = powered_interval([1] * 95 + [0] * 5, [0.9] * 100, [0.9] * 5000)
    >>> (low, high) == exact_interval(95, 100)
    True
    """
    labels = np.asarray(agreed, dtype=np.float64)
    beside = np.asarray(scores, dtype=np.float64)
    rest = np.asarray(unlabelled_scores, dtype=np.float64)
    if labels.shape != beside.shape:
        raise ValueError(f"{len(labels)} labels for {len(beside)} scores; give one score a label")
    n, hits = len(labels), int(labels.sum())
    if min(hits, n - hits) < FEWEST_OF_A_KIND or len(rest) < FEWEST_OF_A_KIND:
        return exact_interval(hits, n, confidence)
    spread = float(np.var(np.concatenate([beside, rest])))
    together = float(np.cov(labels, beside, ddof=1)[0, 1])
    weight = together / ((1 + n / len(rest)) * spread) if spread > 0 else 0.0
    weight = min(max(weight, 0.0), 1.0)
    corrected = labels - weight * beside
    centre = weight * float(rest.mean()) + float(corrected.mean())
    variance = weight**2 * float(rest.var()) / len(rest) + float(corrected.var(ddof=1)) / n
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return max(0.0, centre - reach), min(1.0, centre + reach)

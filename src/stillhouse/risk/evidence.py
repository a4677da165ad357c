"""Evidence that a risk is small: e-values that may be looked at after every row.

Formulas: section 4 of the certificate's specification (docs/explanation/certificate.md).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def log_e_value(n: npt.ArrayLike, k: npt.ArrayLike, max_risk: float) -> Floats:
    """Log of the evidence that `k` disagreements in `n` rows hold against "risk >= max_risk".

    E(n, k) = (1/eps) * B(k+1, n-k+1) * I_eps(k+1, n-k+1) / (eps^k * (1-eps)^(n-k)),
    the likelihood ratio of the risk q to eps, mixed uniformly over q in (0, eps). While the risk
    is eps or more, E is a non-negative supermartingale that starts at 1, so by Ville's inequality
    it ever reaches 1/delta with probability at most delta: the look may come at any moment.

    >>> round(float(np.exp(log_e_value(0, 0, 0.05))), 9)
    1.0
    >>> bool(log_e_value(87, 0, 0.05) < math.log(20) <= log_e_value(88, 0, 0.05))
    True
    """
    n = np.asarray(n, dtype=np.float64)
    k = np.asarray(k, dtype=np.float64)
    a, b = k + 1, n - k + 1
    with np.errstate(divide="ignore"):
        mass = np.log(special.betainc(a, b, max_risk))
    null = k * math.log(max_risk) + (n - k) * math.log1p(-max_risk)
    return cast(Floats, special.betaln(a, b) + mass - null - math.log(max_risk))


def aimed_risk(rows: float, max_risk: float, delta: float) -> float:
    """The disagreement rate at which `rows` rows would just reach 1/delta: the hardest case to win.

    Solves rows * KL(q, max_risk) = ln(1/delta) for q < max_risk; close to 0 for very few rows.

    >>> round(aimed_risk(1500, 0.05, 0.05), 4)
    0.0368
    """
    wanted = math.log(1 / delta) / max(rows, 1.0)

    def missing(q: float) -> float:
        gain = q * math.log(q / max_risk) + (1 - q) * math.log((1 - q) / (1 - max_risk))
        return gain - wanted

    least = 1e-9
    return float(optimize.brentq(missing, least, max_risk)) if missing(least) > 0 else least


def aimed_log_e_value(
    n: npt.ArrayLike, k: npt.ArrayLike, max_risk: float, aim: float
) -> npt.NDArray[np.float64]:
    """Log evidence of a mixture: three quarters on the rate `aim`, one quarter uniform as above.

    Each part is a supermartingale from 1 under "risk >= max_risk", so their mixture is one too,
    as long as `aim` is fixed before the rows are seen. Near the aim it needs fewer rows than the
    uniform mixture alone (52 disagreements of 1,500 rows pass instead of 49), far from it it
    loses ln 4.
    """
    n = np.asarray(n, dtype=np.float64)
    k = np.asarray(k, dtype=np.float64)
    point = k * math.log(aim / max_risk) + (n - k) * math.log((1 - aim) / (1 - max_risk))
    uniform = log_e_value(n, k, max_risk)
    return cast(Floats, np.logaddexp(math.log(0.75) + point, math.log(0.25) + uniform))


def highest_log_e_value(disagreements: npt.NDArray[np.bool_], max_risk: float, aim: float) -> float:
    """The highest evidence reached after any row of a stream, 0.0 (E = 1) before the first.

    >>> highest_log_e_value(np.zeros(0, dtype=bool), 0.05, 0.03)
    0.0
    """
    # Evidence grows with every agreement, so its peaks stand just before a disagreement or last.
    peaks = np.flatnonzero(np.append(disagreements, True))
    wrong = np.arange(len(peaks))
    after_a_row = peaks > 0
    found = aimed_log_e_value(peaks[after_a_row], wrong[after_a_row], max_risk, aim)
    return float(np.max(found, initial=0.0))


def rows_needed(max_risk: float, delta: float) -> int:
    """Accepted rows without a single disagreement that are needed to reach 1/delta.

    >>> rows_needed(0.05, 0.05), rows_needed(0.10, 0.05), rows_needed(0.02, 0.05)
    (88, 43, 224)
    """
    n = np.arange(1, 200_000)
    reached = log_e_value(n, np.zeros_like(n), max_risk) >= math.log(1 / delta)
    if not reached.any():
        raise ValueError(f"max_risk {max_risk} is too small to be certified from 200,000 rows")
    return int(n[reached.argmax()])


def exact_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share: `k` of `n`, two-sided. For reports, never a gate.

    >>> low, high = exact_interval(0, 59)
    >>> low, round(high, 3)
    (0.0, 0.061)
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high

"""Has the risk risen? A watch on audited answers that is always ready, however long it was good.

Each audited answer asks how much likelier it is under a higher risk than under the one promised.
The product of these ratios, started anew at every row and summed, is the statistic of
Shiryaev and Roberts: good months leave no debt that bad rows would first have to pay off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RATIOS = (1.3, 1.8, 2.5, 4.0, 6.0)
"""How many times the promised risk is looked for: small rises long, large ones at once."""
HIGHEST = 1e300
"""Statistics stop here, short of overflow. Lower is never quicker to alarm."""
LONGEST_RUN = 1e12
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Detector:
    """What the audited answers say so far against "the risk is still at most `max_risk`".

    While each answer's chance to disagree, given those before it, is at most `max_risk`, the
    answers until `alarm` number at least `run_length` on average, and an alarm comes within n of
    them with probability at most n / run_length. Nothing else is assumed: the answers need not be
    alike, nor independent. After an alarm the watch is over; whatever serves then is watched anew.
    """

    max_risk: float
    run_length: float
    statistics: tuple[float, ...]

    @property
    def level(self) -> float:
        """The mean of the statistics: 0 at the start, at `run_length` the alarm."""
        return sum(self.statistics) / len(self.statistics)

    @property
    def alarm(self) -> bool:
        """Whether the promise is to be taken back."""
        return self.level >= self.run_length


def watch(max_risk: float, run_length: float) -> Detector:
    """Begin a watch: nothing was seen.

    >>> detector = watch(max_risk=0.05, run_length=5000)
    >>> for disagrees in [True, False] * 12:
    ...     detector = after(detector, disagrees)
    >>> detector.alarm
    True
    """
    if not 0 < max_risk < 1:
        raise ValueError(f"max_risk is {max_risk}; give a share between 0 and 1, as 0.05")
    if not 1 <= run_length <= LONGEST_RUN:
        raise ValueError(
            f"run_length is {run_length}; give the answers between false alarms, as 5000"
        )
    return Detector(max_risk, run_length, (0.0,) * len(RATIOS))


def after(detector: Detector, disagrees: bool) -> Detector:
    """The watch after one more audited answer.

    R <- (1 + R) * (q / eps if it disagrees, else (1 - q) / (1 - eps)) for each risk q looked for.
    """
    weights = _weights(detector.max_risk)[disagrees]
    followed = tuple(
        min((1.0 + statistic) * weight, HIGHEST)
        for statistic, weight in zip(detector.statistics, weights, strict=True)
    )
    return Detector(detector.max_risk, detector.run_length, followed)


def first_alarm(
    disagreements: npt.NDArray[np.bool_], max_risk: float, run_length: float
) -> int | None:
    """The number of answers after which a watch begun at the first one alarms; None if it does not.

    The same rule as `after`, in logarithms and for long recordings.

    >>> import numpy as np
    >>> first_alarm(np.tile([True, False], 12), 0.05, 5000)
    13
    """
    import numpy as np  # the watch itself, a step at a time, does without

    watch(max_risk, run_length)
    agree, disagree = np.log(np.array(_weights(max_risk)))
    past = np.full(len(RATIOS), -np.inf)
    bar = np.log(run_length * len(RATIOS))
    for begin in range(0, len(disagreements), _CHUNK):
        rows = np.asarray(disagreements[begin : begin + _CHUNK], dtype=np.bool_)
        product = np.cumsum(np.where(rows[:, None], disagree, agree), axis=0)
        # Unrolled: R_n = P_n * (R_0 + sum of 1/P_i over the rows before n), P the product so far.
        before = np.vstack([np.logaddexp(past, 0.0), -product[:-1]])
        levels = product + np.logaddexp.accumulate(before, axis=0)
        high = np.flatnonzero(np.logaddexp.reduce(levels, axis=1) >= bar)
        if len(high):
            return begin + int(high[0]) + 1
        past = levels[-1]
    return None


def looked_for(max_risk: float) -> tuple[float, ...]:
    """The risks that the watch looks for, all above `max_risk` and below 1.

    `ratio` times the disagreements, or agreements rarer by the same ratio, whichever is less: for a
    promised risk of up to a seventh it is always the former.

    >>> [round(risk, 3) for risk in looked_for(0.05)]
    [0.065, 0.09, 0.125, 0.2, 0.3]
    >>> [round(risk, 3) for risk in looked_for(0.4)]
    [0.52, 0.667, 0.76, 0.85, 0.9]
    """
    return tuple(min(ratio * max_risk, 1 - (1 - max_risk) / ratio) for ratio in RATIOS)


@lru_cache(maxsize=64)
def _weights(max_risk: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What an agreement, and what a disagreement, multiplies the statistics by."""
    risks = looked_for(max_risk)
    return (
        tuple((1 - risk) / (1 - max_risk) for risk in risks),
        tuple(risk / max_risk for risk in risks),
    )

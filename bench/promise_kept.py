"""Is the promise kept? How often a gate serves a threshold whose true risk is above the target.

    python bench/promise_kept.py [--runs 200] [--data DIR]

One blend student is fitted on 6,000 train rows of BANKING77; the other 7,083 recorded answers are
the pool. Each run draws 2,000 calibration rows from the pool and looks after every 100th. A run
breaks the promise if a threshold served at any look disagrees in more than 5 % of the whole pool.
Flat: 6 % disagreement whatever the score, so that nothing may be certified. Delta is 5 %.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from distil_banking77 import recorded, split
from stillhouse.core.learning import Row, Target
from stillhouse.core.ports import Rehearsal
from stillhouse.distillation import ladder
from stillhouse.distillation.dataset import assemble, rehearsal_split
from stillhouse.flows.distil import held
from stillhouse.risk import certificate
from stillhouse.risk.certificate import grid, open_gate
from stillhouse.risk.evidence import Floats, exact_interval
from stillhouse.wiring import cached_encoder, encodings, recipes

TARGET = Target(max_risk=0.05, confidence=0.95)
DELTA = 0.05
ROWS, LOOK = 2_000, 100
POOL_FROM_TRAIN = 4_003
Wrong = npt.NDArray[np.bool_]
Threshold = Callable[[Floats, Wrong], float | None]


@dataclass(frozen=True)
class Traffic:
    """Scores and disagreements to draw from, and the grid of levels from rows beside them."""

    name: str
    scores: Floats
    wrong: Wrong
    development: Floats
    flat_risk: float | None = None

    def accepted(self, threshold: float) -> float:
        return float((self.scores >= threshold).mean())

    def risk(self, threshold: float) -> float:
        if self.flat_risk is not None:
            return self.flat_risk
        return float(self.wrong[self.scores >= threshold].mean())


def banking77(data: Path) -> Traffic:
    """Fit the student once and ask it about every row of the pool."""
    train, test = recorded(data)
    fitted, rest = split(train, POOL_FROM_TRAIN, seed=0)
    pool: list[Row] = [*rest, *test]
    dataset = assemble("banking77", fitted, rest, test)
    kept, apart = rehearsal_split(dataset.train)
    with tempfile.TemporaryDirectory() as place, encodings(f"{place}/bench.db") as cache:
        rungs = recipes(cached_encoder("", cache, lambda *_: None))
        said: dict[str, Rehearsal] = {}
        for name, recipe in rungs.items():
            said[name] = recipe.rehearse(kept, apart, dataset.labels, 0, dict(said))
        blend = ladder.rung("blend", said["blend"], apart.rows, dataset.labels, TARGET, DELTA)
        student = ladder.fit("blend", rungs, said, dataset.train, dataset.labels, 0)
        found = held(student, pool)
    print(
        f"blend fitted on {len(fitted):,} rows; pool of {len(pool):,} rows, "
        f"disagreement {found.disagreements.mean():.2%}",
        flush=True,
    )
    return Traffic("BANKING77", found.scores, found.disagreements, blend.scores)


def flat(rng: np.random.Generator) -> Traffic:
    """A student that disagrees in 6 % of rows, however sure it is."""
    wrong = np.zeros(10_000, dtype=bool)
    wrong[:600] = True
    return Traffic("flat 6 %", rng.random(10_000), wrong, rng.random(2_000), flat_risk=0.06)


def ours(levels: Floats, planned: int | None, scores: Floats, wrong: Wrong) -> float | None:
    """The gate that Stillhouse ships."""
    return open_gate(scores, wrong, levels, TARGET.max_risk, DELTA, planned).threshold


def best_empirical(scores: Floats, wrong: Wrong) -> float | None:
    """The loosest cut at which the rows seen so far disagree in no more than the target."""
    _, risk, cuts = certificate.risk_curve(scores, wrong)
    return _loosest(cuts, risk <= TARGET.max_risk)


def exact_bound(scores: Floats, wrong: Wrong) -> float | None:
    """The loosest cut whose Clopper-Pearson bound is under the target, any cut, any look."""
    rate, risk, cuts = certificate.risk_curve(scores, wrong)
    seen = np.round(rate * len(scores))
    disagreed = np.round(risk * seen)
    return _loosest(cuts, special.bdtr(disagreed, seen.astype(np.int64), TARGET.max_risk) <= DELTA)


def _loosest(cuts: Floats, fits: npt.NDArray[np.bool_]) -> float | None:
    return float(cuts[np.flatnonzero(fits)[-1]]) if fits.any() else None


def measure(traffic: Traffic, gate: Threshold, runs: int) -> str:
    """Draw calibration streams and look along each; the same streams for every gate."""
    rng = np.random.default_rng(7)
    broken = broken_at_end = 0
    accepted = {ROWS // 4: 0.0, ROWS // 2: 0.0, ROWS: 0.0}
    for _ in range(runs):
        drawn = rng.permutation(len(traffic.scores))[:ROWS]
        risk, worst = 0.0, 0.0
        for n in range(LOOK, ROWS + 1, LOOK):
            threshold = gate(traffic.scores[drawn[:n]], traffic.wrong[drawn[:n]])
            risk = 0.0 if threshold is None else traffic.risk(threshold)
            worst = max(worst, risk)
            if n in accepted and threshold is not None:
                accepted[n] += traffic.accepted(threshold) / runs
        broken += worst > TARGET.max_risk
        broken_at_end += risk > TARGET.max_risk
    return (
        f"{_share(broken, runs)} {_share(broken_at_end, runs)}"
        + "".join(f"{rate:9.1%}" for rate in accepted.values())
    )  # fmt: skip


def _share(k: int, n: int) -> str:
    low, high = exact_interval(k, n)
    return f"{k / n:7.1%} [{low:5.1%}, {high:5.1%}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    chosen = options.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    scenarios = [banking77(chosen.data), flat(np.random.default_rng(11))]
    print(
        f"\n{chosen.runs} runs, {ROWS // LOOK} looks up to {ROWS:,} rows; broken: share of runs "
        "[95 % interval]; accept: mean share of the pool"
        f"\n{'traffic':<10} {'gate':<34} {'broken at any look':<23} {'broken at the last':<22}"
        f"{'at 500':>9}{'at 1,000':>9}{'at 2,000':>9}"
    )

    def line(traffic: Traffic, name: str, gate: Threshold) -> None:
        found = measure(traffic, gate, chosen.runs)
        print(f"{traffic.name:<10} {name:<34} {found}", flush=True)

    for traffic in scenarios:
        line(traffic, "best empirical threshold", best_empirical)
        line(traffic, "exact bound at any threshold", exact_bound)
        shipped = certificate.SPREAD_SHARE
        for levels in (certificate.LEVELS, 20):
            for share in (shipped, 0.5):
                certificate.SPREAD_SHARE = share
                gate = partial(ours, grid(traffic.development, levels), ROWS)
                line(traffic, f"ours, {levels} levels, spread {share}", gate)
        certificate.SPREAD_SHARE = shipped
        misused = partial(ours, grid(traffic.development), None)
        line(traffic, "ours, a new plan at every look", misused)


if __name__ == "__main__":
    main()

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from stillhouse.risk.agreement import agreement_sequence, powered_interval
from stillhouse.risk.evidence import exact_interval

counts = st.integers(0, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.5, 0.999)


def most_by_chance(runs: int, share: float) -> int:
    """A count that chance exceeds once in a thousand tries, if the share is true."""
    return int(stats.binom.ppf(0.999, runs, share))


@given(counts, confidences)
def test_the_interval_is_a_part_of_the_possible_and_holds_the_point_estimate(
    count: tuple[int, int], confidence: float
) -> None:
    agreed, n = count
    low, high = agreement_sequence(agreed, n, confidence)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= agreed / n <= high


@given(counts, confidences)
def test_it_is_wider_than_an_interval_for_a_single_look(
    count: tuple[int, int], confidence: float
) -> None:
    agreed, n = count
    low, high = agreement_sequence(agreed, n, confidence)
    exact_low, exact_high = exact_interval(agreed, n, confidence)
    if n:
        assert high - low >= 0.98 * (exact_high - exact_low)


@given(counts)
def test_more_confidence_means_a_wider_interval(count: tuple[int, int]) -> None:
    low, high = agreement_sequence(*count, confidence=0.9)
    wider_low, wider_high = agreement_sequence(*count, confidence=0.99)
    assert wider_low <= low
    assert wider_high >= high


@given(counts)
def test_agreements_and_disagreements_are_mirrored(count: tuple[int, int]) -> None:
    agreed, n = count
    low, high = agreement_sequence(agreed, n)
    other_low, other_high = agreement_sequence(n - agreed, n)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("agreed", "n"), [(1, 1), (3, 3), (0, 7), (45, 50), (97, 100)])
def test_the_ends_are_where_the_mixture_is_as_likely_as_confidence_asks(
    agreed: int, n: int
) -> None:
    def likelihood(p: float) -> float:
        return float(p**agreed * (1 - p) ** (n - agreed))

    mixture, _ = integrate.quad(
        lambda angle: likelihood(math.sin(angle) ** 2) * 2 / math.pi, 0, math.pi / 2, epsabs=0
    )
    for end in agreement_sequence(agreed, n, 0.95):
        if 0 < end < 1:
            assert mixture / likelihood(end) == pytest.approx(20, rel=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_all_intervals_of_a_stream_together_hold_the_truth_as_often_as_said(share: float) -> None:
    rng = np.random.default_rng(21)
    runs, missed = 150, 0
    looks = sorted({round(1.12**step) for step in range(68)})
    for _ in range(runs):
        agreed = np.cumsum(rng.random(looks[-1]) < share)
        intervals = [agreement_sequence(int(agreed[n - 1]), n, 0.9) for n in looks]
        missed += any(not low <= share <= high for low, high in intervals)
    assert missed <= most_by_chance(runs, 0.1)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2 rows"):
        agreement_sequence(3, 2)
    with pytest.raises(ValueError, match="confidence is 1"):
        agreement_sequence(1, 2, 1.0)


def test_scores_that_tell_make_the_interval_shorter_and_keep_it_true() -> None:
    rng = np.random.default_rng(22)
    truth, runs, held = 0.85, 300, 0
    widths, plain_widths = [], []
    for _ in range(runs):
        scores = np.where(rng.random(5_300) < 0.75, 0.97, 0.49)
        agreed = rng.random(5_300) < scores
        low, high = powered_interval(agreed[:300], scores[:300], scores[300:])
        plain_low, plain_high = exact_interval(int(agreed[:300].sum()), 300)
        widths.append(high - low)
        plain_widths.append(plain_high - plain_low)
        held += low <= truth <= high
    assert np.mean(widths) < 0.85 * np.mean(plain_widths)
    assert runs - held <= most_by_chance(runs, 0.07)


def test_scores_that_tell_nothing_do_no_harm() -> None:
    rng = np.random.default_rng(23)
    agreed, scores = rng.random(400) < 0.9, rng.random(20_400)
    low, high = powered_interval(agreed, scores[:400], scores[400:])
    plain_low, plain_high = exact_interval(int(agreed.sum()), 400)
    assert high - low < 1.1 * (plain_high - plain_low)


def test_with_few_labels_of_a_kind_the_scores_are_left_aside() -> None:
    agreed = np.array([True] * 95 + [False] * 5)
    assert powered_interval(agreed, np.full(100, 0.9), np.full(50, 0.9)) == exact_interval(95, 100)
    assert powered_interval([], [], [0.5]) == (0.0, 1.0)


def test_every_label_needs_its_score() -> None:
    with pytest.raises(ValueError, match="2 labels for 3 scores"):
        powered_interval([1, 0], [0.5, 0.5, 0.5], [0.5])

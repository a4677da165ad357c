from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Fate
from stillhouse.routing.outcomes import Outcome, Retry, Sign, retry_after, retry_of, sign_of

NOW_US = 1_782_000_000_000_000  # 2026-06-21 00:00:00 UTC


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
def test_an_error_of_the_callers_is_never_tried_again(status: int) -> None:
    assert retry_of(Outcome(Fate.STATUS, status)) is Retry.NOWHERE


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_passes_may_be_tried_again_anywhere(status: int) -> None:
    assert retry_of(Outcome(Fate.STATUS, status)) is Retry.ANYWHERE


@pytest.mark.parametrize(
    ("fate", "retry"),
    [
        (Fate.REFUSED, Retry.ANYWHERE),
        (Fate.DNS, Retry.ANYWHERE),
        (Fate.CONNECT_TIMEOUT, Retry.ANYWHERE),
        (Fate.DROPPED, Retry.ANYWHERE),
        (Fate.TLS, Retry.ELSEWHERE),
        (Fate.GARBAGE, Retry.ELSEWHERE),
        (Fate.FIRST_BYTE_TIMEOUT, Retry.COSTLY),
        (Fate.TOTAL_TIMEOUT, Retry.COSTLY),
        (Fate.TRUNCATED, Retry.COSTLY),
        (Fate.TOO_LARGE, Retry.NOWHERE),
        (Fate.CALLER_GONE, Retry.NOWHERE),
        (Fate.INTERRUPTED, Retry.NOWHERE),
    ],
)
def test_each_fate_says_where_another_try_may_help(fate: Fate, retry: Retry) -> None:
    assert retry_of(Outcome(fate)) is retry


@given(st.sampled_from(Fate), st.integers(100, 599))
def test_once_the_caller_has_seen_a_byte_nothing_helps(fate: Fate, status: int) -> None:
    assert retry_of(Outcome(fate, status, answered=True)) is Retry.NOWHERE


@given(st.sampled_from(Fate), st.integers(0, 599), st.none() | st.floats(0, 100), st.booleans())
def test_every_outcome_has_a_sign(fate: Fate, status: int, told: float | None, own: bool) -> None:
    assert isinstance(sign_of(Outcome(fate, status, told, caller_key=own)), Sign)


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_callers_own_key_that_is_turned_away_says_nothing_of_the_upstream(status: int) -> None:
    assert sign_of(Outcome(Fate.STATUS, status, 5.0, caller_key=True)) is Sign.NONE


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_an_error_of_the_callers_is_a_sign_of_life(status: int) -> None:
    assert sign_of(Outcome(Fate.STATUS, status)) is Sign.WELL


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"12")], 12.0),
        ([(b"retry-after", b" 12 ")], 12.0),
        ([(b"retry-after", b"0.25")], 0.25),
        ([(b"retry-after-ms", b"250"), (b"retry-after", b"12")], 0.25),
        ([(b"retry-after-ms", b"soon"), (b"retry-after", b"12")], 12.0),
        ([(b"retry-after", b"Sun, 21 Jun 2026 00:00:30 GMT")], 30.0),
        ([(b"retry-after", b"Sunday, 21-Jun-26 00:00:30 GMT")], 30.0),
        ([(b"retry-after", b"Sat, 20 Jun 2026 00:00:30 GMT")], 0.0),
        ([(b"retry-after", b"Sun, 99 Jun 2026 00:00:30 GMT")], None),
        ([(b"retry-after", b"Sun, 21 Foo 2026 00:00:30 GMT")], None),
        ([(b"retry-after", b"-5")], None),
        ([(b"retry-after", b"1e9")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"nan")], None),
        (
            [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"1m2s")],
            62.0,
        ),
        (
            [(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"120ms")],
            0.12,
        ),
        ([(b"x-ratelimit-remaining-tokens", b"9"), (b"x-ratelimit-reset-tokens", b"6m0s")], None),
        ([(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"soon")], None),
        ([(b"x-ratelimit-remaining-tokens", b"0")], None),
    ],
)
def test_what_an_upstream_asks_for_is_read_in_all_its_spellings(
    headers: list[tuple[bytes, bytes]], seconds: float | None
) -> None:
    assert retry_after(headers, NOW_US) == (None if seconds is None else pytest.approx(seconds))


@given(st.binary(max_size=60), st.integers(0, 2**60))
def test_any_bytes_for_a_header_give_a_span_or_none(text: bytes, now_us: int) -> None:
    for name in (b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens"):
        fields = [(name, text), (b"x-ratelimit-remaining-tokens", b"0")]
        told = retry_after(fields, now_us)
        assert told is None or 0 <= told < float("inf")

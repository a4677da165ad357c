"""What came of a call upstream: whether another may help, and how the upstream is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum

from stillhouse.core.calls import Fate, Headers
from stillhouse.core.nouns import Noun


class Outcome(Noun, frozen=True):
    """What came of one call upstream, for those who decide what happens next.

    `answered` says that the caller has seen a part of it, so nothing else may follow.
    `first_byte_seconds` is what the balance by latency goes by, the whole duration where it is
    None. `caller_key` says that the call went out with the caller's own provider key: then being
    turned away says nothing about the upstream. `unspoken` says that nothing was sent, because the
    upstream speaks nothing that this caller could be answered in.
    """

    fate: Fate
    status: int = 0
    retry_after_seconds: float | None = None
    answered: bool = False
    first_byte_seconds: float | None = None
    caller_key: bool = False
    unspoken: bool = False


UNSPOKEN = Outcome(Fate.WITHDRAWN, unspoken=True)


class Retry(Enum):
    """Where another try may help."""

    NOWHERE = "nowhere"
    ELSEWHERE = "elsewhere"
    ANYWHERE = "anywhere"
    COSTLY = "costly"


_RETRIES: Mapping[Fate, Retry] = {
    Fate.REFUSED: Retry.ANYWHERE,
    Fate.DNS: Retry.ANYWHERE,
    Fate.CONNECT_TIMEOUT: Retry.ANYWHERE,
    Fate.DROPPED: Retry.ANYWHERE,
    Fate.TLS: Retry.ELSEWHERE,
    Fate.GARBAGE: Retry.ELSEWHERE,
    Fate.FIRST_BYTE_TIMEOUT: Retry.COSTLY,
    Fate.TOTAL_TIMEOUT: Retry.COSTLY,
    Fate.TRUNCATED: Retry.COSTLY,
}
"""A certificate and a page that is no JSON stay wrong; the rest of the fates help nowhere.

After the costly ones the upstream has very likely done the work, and will bill it: a second call
is paid twice, so it is made only where somebody has said that the answer is worth it.
"""


def retry_of(outcome: Outcome) -> Retry:
    """Where another call may do better than this one.

    >>> [retry_of(Outcome(Fate.STATUS, status)).value for status in (400, 401, 429, 503)]
    ['nowhere', 'nowhere', 'anywhere', 'anywhere']
    """
    if outcome.answered:
        return Retry.NOWHERE
    if outcome.fate is Fate.STATUS:
        return Retry.ANYWHERE if _passes(outcome.status) else Retry.NOWHERE
    if outcome.unspoken:
        return Retry.ELSEWHERE
    return _RETRIES.get(outcome.fate, Retry.NOWHERE)


def _passes(status: int) -> bool:
    """Whether the same request may be answered another time: busy, broken or in conflict."""
    return status in (408, 409, 429) or (status >= 500 and status != 501)


class Sign(Enum):
    """What an outcome says of the health of the one that was called."""

    WELL = "well"
    ILL = "ill"
    BUSY = "busy"
    WRONG_KEY = "wrong key"
    SHUT = "shut"
    NONE = "none"


_OK, _WELL = Fate.OK, Sign.WELL  # members of an enumeration are dear to look up
_SILENT = (Fate.CALLER_GONE, Fate.WITHDRAWN, Fate.OUTRUN, Fate.INTERRUPTED, Fate.TOO_LARGE)


def sign_of(outcome: Outcome) -> Sign:
    """What an outcome says of the upstream: an error of the caller's is a sign of life.

    >>> sign_of(Outcome(Fate.STATUS, 429, retry_after_seconds=7.0))
    <Sign.BUSY: 'busy'>
    >>> sign_of(Outcome(Fate.STATUS, 401)), sign_of(Outcome(Fate.STATUS, 401, caller_key=True))
    (<Sign.WRONG_KEY: 'wrong key'>, <Sign.NONE: 'none'>)
    """
    fate, status = outcome.fate, outcome.status
    if fate is _OK:
        return _WELL
    if fate is not Fate.STATUS:
        return Sign.NONE if fate in _SILENT else Sign.ILL
    if status in (401, 403, 429) and outcome.caller_key:
        return Sign.NONE
    if status == 401:
        return Sign.WRONG_KEY
    if status == 403:
        return Sign.SHUT
    if not _passes(status) or status == 409:
        return Sign.WELL
    return Sign.ILL if outcome.retry_after_seconds is None else Sign.BUSY


_DATE = re.compile(rb"(\d{1,2})[ -]([A-Za-z]{3})[ -](\d{4}|\d\d) (\d\d):(\d\d):(\d\d) GMT")
_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_NUMBER = re.compile(rb"\d{1,12}(?:\.\d{1,9})?")
_PART = re.compile(rb"(\d{1,9}(?:\.\d{1,9})?)(ms|h|m|s)")
_PART_SECONDS = {b"ms": 0.001, b"s": 1.0, b"m": 60.0, b"h": 3600.0}


def retry_after(headers: Headers, now_us: int) -> float | None:
    """How many seconds an upstream asks to be left alone, None where it does not say.

    Reads `retry-after-ms`, `retry-after` (seconds or an HTTP date), and where neither can be read
    the `x-ratelimit-reset-*` of a limit that is used up; what makes no sense is passed over.

    >>> retry_after([(b"retry-after", b"1.5")], 0)
    1.5
    >>> retry_after([(b"retry-after", b"Thu, 01 Jan 1970 00:00:09 GMT")], 2_000_000)
    7.0
    """
    told = dict(headers)
    if (text := told.get(b"retry-after-ms")) is not None and _NUMBER.fullmatch(text.strip()):
        return float(text) / 1000
    if (text := told.get(b"retry-after")) is not None:
        if _NUMBER.fullmatch(text.strip()):
            return float(text)
        if (at := _epoch_seconds(text)) is not None:
            return max(0.0, at - now_us / 1e6)
    resets = [
        seconds
        for kind in (b"requests", b"tokens")
        if told.get(b"x-ratelimit-remaining-" + kind) == b"0"
        and (seconds := _span(told.get(b"x-ratelimit-reset-" + kind, b""))) is not None
    ]
    return max(resets, default=None)


def _epoch_seconds(text: bytes) -> float | None:
    found = _DATE.search(text)
    if found is None or found[2].lower() not in _MONTHS:
        return None
    year = int(found[3])
    if year < 100:
        year += 1900 if year >= 70 else 2000
    month = _MONTHS.index(found[2].lower()) + 1
    try:
        day, hour, minute, second = (int(found[n]) for n in (1, 4, 5, 6))
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return at.timestamp()


def _span(text: bytes) -> float | None:
    """Read a duration as OpenAI writes it: `6m0s`, `1.2s`, `120ms`."""
    parts = _PART.findall(text)
    if not parts or b"".join(number + unit for number, unit in parts) != text:
        return None
    return math.fsum(float(number) * _PART_SECONDS[unit] for number, unit in parts)

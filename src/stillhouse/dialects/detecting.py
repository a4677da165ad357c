"""Finds, by form and checksum, what identifies people or opens doors in a text."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import NamedTuple

Span = tuple[int, int, str]


class Detector(NamedTuple):
    """Finds one kind of thing: what the group `it` matched, or all, as far as it `holds`.

    `holds` gives the length of what it says yes to, 0 for none. A text without the `hint` has none.
    `numeric` says that any long number may be one by chance.
    """

    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str], int] = len
    hint: str = ""
    numeric: bool = False


def found(text: str, *, numeric: bool = True) -> list[Span]:
    """Where something is to be taken out: start, end and kind, in order and without overlaps.

    Without `numeric`, what is known by its digits alone is left: in an id it is there by chance.

    >>> found("from 10.0.0.7 by card 4111 1111 1111 1111")
    [(5, 13, 'IP'), (22, 41, 'CARD')]
    """
    if not worth(text):
        return []
    taken: list[Span] = []
    for detector in DETECTORS:
        if detector.hint not in text or (detector.numeric and not numeric):
            continue
        named = "it" if "it" in detector.pattern.groupindex else 0
        for match in detector.pattern.finditer(text):
            start, end = match.span(named)
            start += _escape(text, start)
            end = start + detector.holds(text[start:end])
            if start < end and _is_free(taken, start, end):
                insort(taken, (start, end, detector.kind))
    return taken


def worth(text: str) -> bool:
    """Whether looking closer is worth it: nothing is found in a text where this says no."""
    return _WORTH.search(text) is not None


_WORTH = re.compile(r"[\d@]|://|-----BEGIN")


def _is_free(taken: list[Span], start: int, end: int) -> bool:
    place = bisect_left(taken, (start,))
    return (place == 0 or taken[place - 1][1] <= start) and (
        place == len(taken) or taken[place][0] >= end
    )


def _escape(text: str, start: int) -> int:
    r"""How much of what was found is the end of an escape: in `\nada@example.com` the `n`."""
    before = start
    while before and text[before - 1] == "\\":
        before -= 1
    if (start - before) % 2 == 0:
        return 0
    return 5 if re.match(r"u[0-9A-Fa-f]{4}", text[start:]) else 1


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before (ISO/IEC 7812-1).

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


_LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20
EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30
KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24
PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29
VA22 VG24 XK20
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}


def iban(text: str) -> bool:
    """Whether a text is an account number of its country's length with the right check digits.

    >>> iban("DE89 3704 0044 0532 0130 00"), iban("DE88 3704 0044 0532 0130 00")
    (True, False)
    """
    plain = text.replace(" ", "").upper()
    if _IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _card(text: str) -> int:
    digits = re.sub(r"\D", "", text)
    return len(text) if digits[:1] in tuple("23456") and luhn(digits) else 0


def _phone(text: str) -> int:
    return len(text) if 9 <= sum(sign.isdigit() for sign in text) <= 15 else 0


def _mixed(text: str) -> int:
    """A token rather than a word: digits and letters."""
    mixed = any(sign.isdigit() for sign in text) and any(sign.isalpha() for sign in text)
    return len(text) if mixed else 0


def _ipv6(text: str) -> int:
    if not any(sign.isdigit() for sign in text):
        return 0  # `dead::beef` is an address, and `add::face` a path in a program
    try:
        IPv6Address(text)
    except ValueError:
        return 0
    return len(text)


def _iban(text: str) -> int:
    """How far an account number goes; words that follow may have matched with it."""
    left = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    for end, sign in enumerate(text, 1):
        left -= sign != " "
        if left == 0:
            whole = not text[end : end + 1].isalnum() and iban(text[:end])
            return end if whole else 0
    return 0


_KEYS = r"""(?<![\w-])(?:
    sk-[\w-]{16,} | (?:sk|rk|pk|whsec)_(?:(?:live|test)_)?[A-Za-z\d]{16,}
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z\d]{16} | gh[pousr]_\w{30,255} | github_pat_\w{22,255}
    | glpat-[\w-]{20,} | xox[abeprs]-[\w-]{10,} | AIza[\w-]{35} | ya29\.[\w-]{20,}
    | hf_[A-Za-z\d]{30,} | npm_[A-Za-z\d]{36} | pypi-[\w-]{50,} | xai-[\w-]{20,} | gsk_\w{20,}
    | SG\.[\w-]{16,}\.[\w-]{16,} | eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*
)"""
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"

DETECTORS = (
    Detector(
        "KEY",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        hint="-----BEGIN",
    ),
    Detector("KEY", re.compile(_KEYS, re.VERBOSE)),
    Detector("KEY", re.compile(r"(?i)\b(?:bearer|basic)\s+(?P<it>[\w.~+/-]{16,}=*)"), _mixed),
    Detector(
        "KEY",
        re.compile(
            r"(?i)(?:api[_-]?key|secret|passw(?:or)?d|passphrase|token)[\"']?\s*[:=]\s*[\"']?"
            r"(?P<it>[^\s\"',;<>\\]{12,})"
        ),
        _mixed,
    ),
    Detector(
        "CREDENTIALS", re.compile(r"://(?P<it>[^\s/@:\"]{0,128}:[^\s/@\"]{1,256})@"), hint="://"
    ),
    Detector(
        "EMAIL",
        re.compile(
            r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?!\w)"
        ),
        hint="@",
    ),
    Detector("IBAN", re.compile(r"(?<![A-Za-z\d])[A-Za-z]{2}\d\d(?: ?[A-Za-z\d]){11,31}"), _iban),
    Detector(
        "CARD", re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)"), _card, numeric=True
    ),
    Detector(
        "SSN",
        re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}(?![\w-])"),
        numeric=True,
    ),
    Detector(
        "IP",
        re.compile(rf"(?<![\w.-]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w-]|\.\d)"),
        hint=".",
        numeric=True,
    ),
    Detector("IP", re.compile(r"(?<![\w:.])[\dA-Fa-f:]{2,39}(?![\w:])"), _ipv6, ":", numeric=True),
    Detector(
        "PHONE",
        re.compile(r"(?<![\w+.-])(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}(?![\w-])"),
        _phone,
        numeric=True,
    ),
    Detector(
        "PHONE",
        re.compile(
            r"(?<![\w+.-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-])"
        ),
        _phone,
        numeric=True,
    ),
    Detector(
        "PHONE",
        re.compile(r"(?<![\w+.-])\(?0[1-9]\d{1,4}\)?[ /-]\d{3,8}(?:[ -]\d{2,8}){0,3}(?![\w-])"),
        _phone,
        numeric=True,
    ),
)
"""In order of precedence: what one has found the next ones leave alone."""

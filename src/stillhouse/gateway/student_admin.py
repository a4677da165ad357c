"""The admin API of students: how each version stands, and who answers from now on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from stillhouse.core.errors import CallerError
from stillhouse.core.serving import Change, Terms
from stillhouse.flows import certificates, steering
from stillhouse.flows.certificates import HoldingBooks
from stillhouse.flows.steering import By, SteeringBooks
from stillhouse.gateway.admin import admitted
from stillhouse.gateway.door import Door
from stillhouse.gateway.http import Answer, Question, RefusedError

CHANGES = {
    "pause": Change.PAUSED,
    "resume": Change.RESUMED,
    "rollback": Change.ROLLED_BACK,
    "retire": Change.RETIRED,
}
VERBS = ("promote", *CHANGES)
"""The last part of a path below a task."""

LONGEST_WHY = 500
MOST_KEYS = 100
HIGHEST_VERSION = 10**6
KEY_ID = r"^[!-~]{1,64}$"
_COMMON = ("version", "why")
_KNOWN = {"promote": (*_COMMON, "share", "keys")}


class StudentBooks(SteeringBooks, HoldingBooks, Protocol):
    """The books as far as students go."""


Opened = Callable[[], AbstractContextManager[StudentBooks | None]]
"""Opens the books; None where there are none yet."""


class StudentAdmin:
    """Handlers under /admin/students; every one of them wants a key with the admin right."""

    def __init__(
        self,
        books: Opened,
        terms_of: Callable[[str], Terms],
        door: Door,
        now_us: Callable[[], int],
    ) -> None:
        self._books, self._terms_of, self._door, self._now_us = books, terms_of, door, now_us

    async def listing(self, asked: Question) -> Answer:
        """GET /admin/students."""
        admitted(self._door, asked)
        return Answer.of(await asyncio.to_thread(self._listed))

    async def steer(self, asked: Question) -> Answer:
        """POST /admin/students/TASK/VERB."""
        key = admitted(self._door, asked)
        task, _, verb = asked.rest.rpartition("/")
        if not task or verb not in VERBS:
            raise RefusedError(
                404, f"nothing is served here; POST /admin/students/TASK/{'|'.join(VERBS)}"
            )
        wish = _wish(asked.json(), verb)
        by = By(f"key {key.name}", self._now_us(), wish.pop("why", ""))
        return Answer.of(await asyncio.to_thread(self._steered, task, verb, by, wish))

    def _listed(self) -> Mapping[str, object]:
        with self._books() as books:
            found = []
            if books is not None:
                found = certificates.holdings(books, self._terms_of, evidence=False)
        return {
            "students": [certificates.facts(one) for one in found],
            "expected_false_certificates": certificates.expected_false(found),
        }

    def _steered(self, task: str, verb: str, by: By, wish: Mapping[str, Any]) -> dict[str, object]:
        with self._books() as books:
            if books is None or not books.versions(task):
                raise RefusedError(404, "there is no student of this task; see /admin/students")
            try:
                if verb == "promote":
                    return steering.promote(books, task, by, **wish).facts()
                return steering.change(books, task, CHANGES[verb], by, **wish).facts()
            except CallerError as refused:
                raise RefusedError(409, str(refused)) from refused


def _wish(content: Mapping[str, Any], verb: str) -> dict[str, Any]:
    """What is asked of a change, checked; CallerError names the first member that is wrong."""
    known = _KNOWN.get(verb, _COMMON)
    unknown = sorted(content.keys() - set(known))
    if unknown:
        raise CallerError(f"{unknown[0][:40]!r} is unknown here; use {', '.join(sorted(known))}")
    wish = {name: value for name, value in content.items() if value is not None}
    for name, value in wish.items():
        if not _FITS[name](value):
            raise CallerError(f"{name} is no {_MEANT[name]}")
    if "keys" in wish and wish.get("share", 1) != 1:
        raise CallerError("share and keys each choose who is answered; give one of the two")
    return wish


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_VERSION


def _is_why(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_WHY and value.isprintable()


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _are_keys(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MOST_KEYS:
        return False
    return all(isinstance(one, str) and re.fullmatch(KEY_ID, one) for one in value)


_FITS: Mapping[str, Callable[[object], bool]] = {
    "version": _is_version,
    "why": _is_why,
    "share": _is_share,
    "keys": _are_keys,
}
_MEANT = {
    "version": "number of a version: 1 or more",
    "why": f"printable text of up to {LONGEST_WHY} characters",
    "share": "share above 0 and up to 1",
    "keys": f"list of 1 to {MOST_KEYS} key ids",
}

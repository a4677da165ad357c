"""Who answers a task: a fold over its policy events, and the verbs that make the next one.

A version is shadowed or certified, promoted, paused and resumed, raised to a stricter level, rolled
back, voided, retired. One version answers at most. No event brings back an older version: its
certificate speaks of the traffic of its time, so somebody has to promote it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.serving import Change, Mode, PolicyEvent, Standing

MONITOR = "monitor"
"""Who it is where the watch on drift acts; what it stopped is never promoted again."""
_SEATED = (Mode.SERVING, Mode.PAUSED)
_MODES = {
    Change.SHADOWED: Mode.SHADOW,
    Change.CERTIFIED: Mode.CERTIFIED,
    Change.PROMOTED: Mode.SERVING,
    Change.PAUSED: Mode.PAUSED,
    Change.RESUMED: Mode.SERVING,
    Change.ROLLED_BACK: Mode.STOPPED,
    Change.VOIDED: Mode.STOPPED,
    Change.RETIRED: Mode.RETIRED,
}


def standings(events: Iterable[PolicyEvent]) -> dict[int, Standing]:
    """How each version of a task stands after its events, which come oldest first.

    >>> said = PolicyEvent("desk", 1, "promoted", "certified", "ana", 5, {"threshold": 0.8})
    >>> standings([said, said._replace(event="paused")])[1].mode.value
    'paused'
    """
    found: dict[int, Standing] = {}
    for event in events:
        if event.event == Change.PROMOTED:
            for other in found.values():
                if other.mode in _SEATED and other.version != event.version:
                    found[other.version] = _superseded(other, event)
        found[event.version] = _after(found.get(event.version), event)
    return dict(sorted(found.items()))


def serving(events: Iterable[PolicyEvent]) -> Standing | None:
    """The version that answers; None while the teacher answers everything."""
    every = standings(events).values()
    return next((standing for standing in every if standing.mode is Mode.SERVING), None)


def watched(events: Iterable[PolicyEvent]) -> tuple[int, ...]:
    """The versions that answer nobody and are compared with the teacher."""
    modes = (Mode.SHADOW, Mode.CERTIFIED)
    return tuple(v for v, standing in standings(events).items() if standing.mode in modes)


def in_canary(exchange_id: str, key: bytes, share: float) -> bool:
    """Whether a share of the traffic includes this exchange; independent of the coin of audits.

    A larger share includes all that a smaller one did.

    >>> sum(in_canary(str(n), b"key", 0.25) for n in range(4000))
    1029
    """
    toss = hashlib.blake2b(
        exchange_id.encode("utf-8"), key=key, digest_size=8, person=b"canary"
    ).digest()
    return int.from_bytes(toss, "big") < share * 2**64


def _after(before: Standing | None, event: PolicyEvent) -> Standing:
    """A version's standing after an event of its own."""
    change, detail = Change(event.event), event.detail
    standing = before or Standing(event.task, event.version, Mode.STOPPED)
    if change is Change.PROMOTED:
        share, keys = detail.get("share", 1.0), detail.get("keys", ())
        standing = replace(
            standing,
            share=float(share) if isinstance(share, int | float) else 1.0,
            keys=tuple(map(str, keys)) if isinstance(keys, list | tuple) else (),
        )
    threshold = detail.get("threshold", standing.threshold)
    if change is Change.VOIDED or _alarmed(event):
        threshold = None
    return replace(
        standing,
        mode=_MODES.get(change, standing.mode),
        threshold=float(threshold) if isinstance(threshold, int | float) else None,
        since_us=event.at_us,
        why=event.why,
        who=event.who,
    )


def _superseded(standing: Standing, event: PolicyEvent) -> Standing:
    why = f"superseded by version {event.version}"
    return replace(standing, mode=Mode.STOPPED, since_us=event.at_us, why=why, who=event.who)


def _alarmed(event: PolicyEvent) -> bool:
    return event.event == Change.ROLLED_BACK and event.who == MONITOR


def shadow(
    events: Sequence[PolicyEvent], version: int, *, why: str, who: str, at_us: int, task: str = ""
) -> PolicyEvent:
    """Compare a version with the teacher while it answers nobody."""
    _refuse_barred(events, version, "shadow")
    _refuse_mode(events, version, "shadow", (None, Mode.STOPPED))
    return _event(events, task, version, Change.SHADOWED, why, who, at_us)


def certify(
    events: Sequence[PolicyEvent],
    version: int,
    certificate: Certificate | Refusal | None,
    *,
    why: str,
    who: str,
    at_us: int,
    task: str = "",
) -> PolicyEvent:
    """Note that the gate has certified a version, which answers nobody yet."""
    _refuse_barred(events, version, "certify")
    _refuse_mode(events, version, "certify", (None, Mode.SHADOW))
    proven = _proven(events, version, certificate)
    detail = {"threshold": proven.threshold}
    return _event(events, task, version, Change.CERTIFIED, why, who, at_us, detail)


def promote(
    events: Sequence[PolicyEvent],
    version: int,
    certificate: Certificate | Refusal | None,
    *,
    why: str,
    who: str,
    at_us: int,
    task: str = "",
    share: float = 1.0,
    keys: Sequence[str] = (),
    threshold: float | None = None,
) -> PolicyEvent:
    """Let a certified version answer, in place of the one that does; or change its canary.

    `threshold` may be stricter than the certificate's and never looser, nor looser than the level
    to which an alarm has raised it.
    """
    _refuse_barred(events, version, "promote")
    proven = _proven(events, version, certificate)
    before = standings(events).get(version)
    if who == MONITOR and before is not None and before.mode is Mode.STOPPED:
        _refuse(events, version, "promote without a person's word", before.mode)
    if not 0 < share <= 1:
        raise CallerError(
            f"the share for version {version} of {_named(events)} is {share}; give more than 0 "
            "and at most 1"
        )
    lowest = max(proven.threshold, _raised_to(events, version))
    chosen = lowest if threshold is None else threshold
    if not chosen >= lowest:
        raise CallerError(
            f"the threshold {chosen} for version {version} of {_named(events)} is looser than "
            f"{lowest}, where its certificate begins; leave it out or give a stricter one"
        )
    detail = {"threshold": chosen, "share": share, "keys": list(keys)}
    return _event(events, task, version, Change.PROMOTED, why, who, at_us, detail)


def _raised_to(events: Sequence[PolicyEvent], version: int) -> float:
    """The strictest level that an alarm has asked of a version; no bar at all without one."""
    bars = [
        bar
        for event in events
        if event.version == version
        and event.event == Change.RAISED
        and isinstance(bar := event.detail.get("threshold"), float)
    ]
    return max(bars, default=float("-inf"))


def pause(
    events: Sequence[PolicyEvent], version: int, *, why: str, who: str, at_us: int, task: str = ""
) -> PolicyEvent:
    """Let the teacher answer everything for a while; the version keeps its threshold."""
    _refuse_mode(events, version, "pause", (Mode.SERVING,))
    return _event(events, task, version, Change.PAUSED, why, who, at_us)


def resume(
    events: Sequence[PolicyEvent], version: int, *, why: str, who: str, at_us: int, task: str = ""
) -> PolicyEvent:
    """Let a paused version answer again."""
    _refuse_mode(events, version, "resume", (Mode.PAUSED,))
    return _event(events, task, version, Change.RESUMED, why, who, at_us)


def rollback(
    events: Sequence[PolicyEvent],
    version: int,
    *,
    why: str,
    who: str,
    at_us: int,
    task: str = "",
    queue: bool = False,
) -> PolicyEvent:
    """Stop a version: the teacher answers, and no older version comes back by itself.

    Stopped by a person it may be promoted again; by the monitor never, which wants a new version.
    `queue` says that the person wants one too.
    """
    _refuse_mode(events, version, "roll back", _SEATED)
    return _event(events, task, version, Change.ROLLED_BACK, why, who, at_us, _queued(queue, who))


def raise_level(
    events: Sequence[PolicyEvent],
    version: int,
    levels: Sequence[float],
    *,
    why: str,
    who: str,
    at_us: int,
    task: str = "",
    queue: bool = False,
) -> PolicyEvent:
    """Make a version answer from its next stricter level on, once; then roll it back instead.

    It is rolled back at once where there is no stricter level.
    """
    _refuse_mode(events, version, "raise", _SEATED)
    present = standings(events)[version].threshold
    stricter = [level for level in levels if present is not None and level > present]
    raised = any(event.version == version and event.event == Change.RAISED for event in events)
    if raised or not stricter:
        return rollback(events, version, task=task, why=why, who=who, at_us=at_us, queue=queue)
    detail = {"threshold": min(stricter)} | _queued(queue, who)
    return _event(events, task, version, Change.RAISED, why, who, at_us, detail)


def void(
    events: Sequence[PolicyEvent],
    version: int,
    *,
    why: str,
    who: str,
    at_us: int,
    task: str = "",
    queue: bool = False,
) -> PolicyEvent:
    """Take a version's certificate back: what it speaks of is no longer what is asked."""
    _refuse_barred(events, version, "void")
    _refuse_mode(events, version, "void", list(Mode))
    return _event(events, task, version, Change.VOIDED, why, who, at_us, _queued(queue, who))


def retire(
    events: Sequence[PolicyEvent], version: int, *, why: str, who: str, at_us: int, task: str = ""
) -> PolicyEvent:
    """Put a version away for good."""
    _refuse_mode(events, version, "retire", [mode for mode in Mode if mode is not Mode.RETIRED])
    return _event(events, task, version, Change.RETIRED, why, who, at_us)


def _event(
    events: Sequence[PolicyEvent],
    task: str,
    version: int,
    change: Change,
    why: str,
    who: str,
    at_us: int,
    detail: Mapping[str, object] | None = None,
) -> PolicyEvent:
    name = task or (events[-1].task if events else "")
    if not name:
        raise ValueError("the first event of a task has no other to take its name from: give task")
    for what, said in (("why", why), ("who", who)):
        if not said.strip():
            raise CallerError(
                f"version {version} of {name} is to be {change.value} and {what} is {said!r}; say "
                "who decides and why: it is kept"
            )
    return PolicyEvent(name, version, change.value, why, who, at_us, detail or {})


def _queued(queue: bool, who: str) -> dict[str, object]:
    """Whether a new student is wanted: the monitor has nobody to think about it."""
    return {"queue": True} if queue or who == MONITOR else {}


def _named(events: Sequence[PolicyEvent]) -> str:
    return events[-1].task if events else "the task"


def _proven(
    events: Sequence[PolicyEvent], version: int, certificate: Certificate | Refusal | None
) -> Certificate:
    """The certificate of this very version."""
    if isinstance(certificate, Certificate) and certificate.version == version:
        return certificate
    if isinstance(certificate, Certificate):
        seen = f"the certificate is that of version {certificate.version}"
    else:
        seen = certificate.sentence if certificate else "nothing was proven yet"
    raise CallerError(
        f"version {version} of {_named(events)} has no certificate: {seen}; distil a new version, "
        "or let this one gather evidence in shadow"
    )


def _refuse_barred(events: Sequence[PolicyEvent], version: int, verb: str) -> None:
    """Refuse a version that has lost its certificate for good."""
    for event in events:
        lost = event.event in (Change.VOIDED, Change.RETIRED) or _alarmed(event)
        if event.version == version and lost:
            raise CallerError(
                f"cannot {verb} version {version} of {event.task}, which was "
                f"{event.event.replace('_', ' ')} by {event.who} ({event.why}): that is for good; "
                f"run `stillhouse distil {event.task}` for a new version"
            )


def _refuse_mode(
    events: Sequence[PolicyEvent], version: int, verb: str, allowed: Sequence[Mode | None]
) -> None:
    standing = standings(events).get(version)
    mode = standing.mode if standing is not None else None
    if mode not in allowed:
        _refuse(events, version, verb, mode)


def _refuse(events: Sequence[PolicyEvent], version: int, verb: str, mode: Mode | None) -> NoReturn:
    seen = f"is {mode.value}" if mode is not None else "was never at work"
    there = [f"version {v} is {one.mode.value}" for v, one in standings(events).items()]
    raise CallerError(
        f"cannot {verb} version {version} of {_named(events)}, which {seen}; choose another one: "
        + (", ".join(there) or "none was ever at work")
    )

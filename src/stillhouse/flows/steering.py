"""The story of a person who steers: a version is promoted, paused, resumed, rolled back, retired.

What may follow what is the lifecycle's to say. Here a version is chosen, the change is appended
unless somebody else was quicker, and those who want to know are told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.serving import Change, Charter, Mode, Notice, PolicyEvent, Standing
from stillhouse.routing import lifecycle

TRIES = 5
"""How often a change is made anew because another one came first."""


class Version(Protocol):
    """A version of a task, with the newest verdict on it."""

    @property
    def version(self) -> int:
        """Its number."""
        ...

    @property
    def verdict(self) -> Certificate | Refusal | None:
        """What was proven, or why nothing may be promised; None while it gathers evidence."""
        ...


class SteeringBooks(Protocol):
    """What steering reads and writes."""

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers a task, oldest first."""
        ...

    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        """Append an event, unless the task's newest is not `expected` any more: then 0."""
        ...

    def versions(self, task: str) -> Sequence[Version]:
        """Every version of a task, refused ones included."""
        ...

    def charter(self, task: str, version: int) -> Charter | None:
        """What a version may be asked; None where it has no charter."""
        ...

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice to be delivered."""
        ...


class By(NamedTuple):
    """Who changes something, when, and why."""

    who: str
    at_us: int
    why: str = ""


class Steered(NamedTuple):
    """A change that was made: how the version stands now, and who answers the task."""

    event: PolicyEvent
    standing: Standing
    serving: Standing | None

    @property
    def sentence(self) -> str:
        """What is now true."""
        return f"{standing_sentence(self.standing)}; {answering_sentence(self.serving)}"

    def facts(self) -> dict[str, object]:
        """The change and what is now true, as plain values."""
        event, standing, serving = self
        return {
            "task": event.task,
            "version": event.version,
            "event": event.event,
            "number": event.number,
            "why": event.why,
            "who": event.who,
            "mode": standing.mode.value,
            "threshold": standing.threshold,
            "share": standing.share,
            "keys": list(standing.keys),
            "serving": None if serving is None else serving.version,
            "sentence": self.sentence,
        }


_READY = (Mode.CERTIFIED, Mode.SERVING, Mode.PAUSED)
_FROM: dict[Change, Sequence[Collection[Mode]]] = {
    Change.PAUSED: [{Mode.SERVING}],
    Change.RESUMED: [{Mode.PAUSED}],
    Change.ROLLED_BACK: [{Mode.SERVING, Mode.PAUSED}],
    Change.RETIRED: [
        {Mode.SERVING, Mode.PAUSED},
        {Mode.SHADOW, Mode.CERTIFIED, Mode.STOPPED},
    ],
}
"""Which version is meant where none is named: the newest in the first of these that has one."""

_VERBS: dict[Change, tuple[str, Callable[..., PolicyEvent]]] = {
    Change.PAUSED: ("pause", lifecycle.pause),
    Change.RESUMED: ("resume", lifecycle.resume),
    Change.ROLLED_BACK: ("roll back", lifecycle.rollback),
    Change.RETIRED: ("retire", lifecycle.retire),
}


def promote(
    books: SteeringBooks,
    task: str,
    by: By,
    *,
    version: int | None = None,
    share: float = 1.0,
    keys: Sequence[str] = (),
) -> Steered:
    """Let a certified version answer, for a share of the traffic or for some keys at first.

    Without a version the newest certified one. CallerError where it has no certificate, or none
    that a student could work under.
    """
    chosen = promotable(books, task) if version is None else version
    certificate = _certificate(books, task, chosen)
    why = by.why or "promoted by hand"

    def event(events: Sequence[PolicyEvent]) -> PolicyEvent:
        return lifecycle.promote(
            events,
            chosen,
            certificate,
            task=task,
            why=why,
            who=by.who,
            at_us=by.at_us,
            share=share,
            keys=tuple(keys),
        )

    return _append(books, task, event)


def change(
    books: SteeringBooks, task: str, what: Change, by: By, *, version: int | None = None
) -> Steered:
    """Pause, resume, roll back or retire a version; without one named, the one that it can be."""
    word, verb = _VERBS[what]

    def event(events: Sequence[PolicyEvent]) -> PolicyEvent:
        chosen = _meant(events, task, what) if version is None else version
        why = by.why or f"{what.value.replace('_', ' ')} by hand"
        if chosen not in lifecycle.standings(events):
            raise CallerError(
                f"there is no version {chosen} of {task} to {word}; {_stood(events, task)}"
            )
        return verb(events, chosen, task=task, why=why, who=by.who, at_us=by.at_us)

    return _append(books, task, event)


def promotable(books: SteeringBooks, task: str) -> int:
    """The newest version that can be promoted, or that was once certified, or that there is.

    CallerError where there is none at all.
    """
    found = {one.version: isinstance(one.verdict, Certificate) for one in books.versions(task)}
    if not found:
        raise CallerError(f"no student of {task} was ever made; run `stillhouse distil {task}`")
    stood = lifecycle.standings(list(books.policy_events(task)))
    ready = [v for v, one in stood.items() if found.get(v) and one.mode in _READY]
    certified = [v for v in found if found[v] and books.charter(task, v) is not None]
    return max(ready or certified or found)


def _certificate(books: SteeringBooks, task: str, version: int) -> Certificate:
    """The certificate to promote by; CallerError says why there is none."""
    verdicts = {one.version: one.verdict for one in books.versions(task)}
    if version not in verdicts:
        there = ", ".join(map(str, verdicts)) or "none"
        raise CallerError(f"there is no version {version} of {task}; there is: {there}")
    verdict = verdicts[version]
    if isinstance(verdict, Refusal):
        raise CallerError(
            f"version {version} of {task} was refused and cannot be promoted: {verdict.sentence}"
        )
    if books.charter(task, version) is None:
        raise CallerError(
            f"version {version} of {task} has no charter: it was made before students could "
            f"answer; run `stillhouse distil {task}` again"
        )
    if verdict is None:
        raise CallerError(
            f"version {version} of {task} has no certificate yet: it still gathers evidence from "
            "the traffic; see `stillhouse certificates`"
        )
    return verdict


def _append(
    books: SteeringBooks, task: str, event_after: Callable[[Sequence[PolicyEvent]], PolicyEvent]
) -> Steered:
    for _ in range(TRIES):
        events = list(books.policy_events(task))
        event = event_after(events)
        number = books.add_policy_event(event, events[-1].number if events else 0)
        if number:
            event = event._replace(number=number)
            books.add_notice(_notice(event))
            after = [*events, event]
            standing = lifecycle.standings(after)[event.version]
            return Steered(event, standing, lifecycle.serving(after))
    raise StoreError(
        f"others keep changing who answers {task}, and this change came second {TRIES} times; "
        "see `stillhouse certificates --history` and try again"
    )


def _notice(event: PolicyEvent) -> Notice:
    notice_id = f"{event.task}-v{event.version}-{event.event}-{event.number}"
    sentence = f"{event.who}: {event.why}"
    return Notice(
        notice_id, event.event, event.task, event.version, sentence, event.at_us, event.detail
    )


def _meant(events: Sequence[PolicyEvent], task: str, what: Change) -> int:
    stood = lifecycle.standings(events)
    for modes in _FROM[what]:
        found = [version for version, one in stood.items() if one.mode in modes]
        if found:
            return max(found)
    raise CallerError(f"nothing of {task} can be {_done(what)}; {_stood(events, task)}")


def _done(what: Change) -> str:
    return what.value.replace("_", " ")


def _stood(events: Sequence[PolicyEvent], task: str) -> str:
    stood = lifecycle.standings(events)
    if not stood:
        return f"no student of {task} was put to work yet; see `stillhouse promote`"
    return ", ".join(f"version {v} is {mode_words(one.mode)}" for v, one in sorted(stood.items()))


def mode_words(mode: Mode) -> str:
    """A mode as a sentence says it.

    >>> mode_words(Mode.SHADOW)
    'in shadow'
    """
    return "in shadow" if mode is Mode.SHADOW else mode.value


def standing_sentence(standing: Standing) -> str:
    """How a version stands.

    >>> standing_sentence(Standing("intent", 3, Mode.SERVING, 0.93, share=0.1))
    'version 3 of intent is serving 10% of the traffic at a threshold of 0.93'
    """
    said = f"version {standing.version} of {standing.task} is {mode_words(standing.mode)}"
    if standing.mode is Mode.SERVING and standing.threshold is not None:
        whom = f"{100 * standing.share:.3g}% of the traffic"
        if standing.keys:
            whom = f"the keys {', '.join(standing.keys)}"
        elif standing.share >= 1:
            whom = "all of the traffic"
        said += f" {whom} at a threshold of {standing.threshold:.4g}"
    return said


def answering_sentence(serving: Standing | None) -> str:
    """Who answers a task now.

    >>> answering_sentence(None)
    'its teacher answers everything'
    """
    if serving is None:
        return "its teacher answers everything"
    return f"version {serving.version} answers what it is certified for, the teacher the rest"

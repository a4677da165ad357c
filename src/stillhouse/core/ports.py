"""What the hall asks of the outside world; a conformance suite proves each implementation.

Arrays are numpy arrays at run time; they are typed `Any` here because core knows only the standard
library. Shapes stand in the docstrings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stillhouse.core.calls import Done, Entry, Headers, UpstreamCall
from stillhouse.core.learning import Prediction, TrainSet
from stillhouse.core.quotas import Denied, Draw, Hold, Need, Standing, VirtualKey
from stillhouse.core.serving import Answered
from stillhouse.core.traffic import Tags


class Encoder(Protocol):
    """Turns texts into vectors; the same text gives the same vector in any batch."""

    @property
    def name(self) -> str:
        """Name and version of the weights: part of every cache key."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Any:
        """Encode texts into a float32 array of shape [len(texts), dimension]."""
        ...


class Student(Protocol):
    """A fitted, immutable answerer of one task."""

    @property
    def recipe(self) -> str:
        """Name of the recipe that it was fitted by."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The answers it can give."""
        ...

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts; the same text gets the same answer in any batch."""
        ...

    def odds(self, texts: Sequence[str]) -> Any:
        """The labels' probabilities, an array of shape [len(texts), len(labels)].

        A row sums to 1; its highest stands at the label of `predict`, and is its score.
        """
        ...

    def to_bytes(self) -> bytes:
        """The artefact: reading it back gives a student with the same answers, bit for bit."""
        ...


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a fit on a part of the training rows said of the rows held out from it.

    `logits` is an array of shape [held out rows, labels], scaled so that its softmax is an honest
    probability; `weights` are the scale, or the weights of the voices of a blend. Thresholds and
    choices are made from rehearsals, so that no calibration row is touched before the gate.
    """

    logits: Any
    weights: tuple[float, ...]


class Recipe(Protocol):
    """An unfitted way to make a student; the same rows and seed give the same student."""

    @property
    def name(self) -> str:
        """Name shown in reports; `constant`, `lexical`, `embedding`, `blend`."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the recipes that this one joins; empty for most."""
        ...

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Fit on `train`, answer `held_out`; `below` has the rehearsals of the voices."""
        ...

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Fit on all training rows with the rehearsed weights; `below` has the fitted voices."""
        ...


class Students(Protocol):
    """The students at work, wherever they run; asking one never blocks and never fails."""

    async def ask(
        self, student: str, text: str, deadline_seconds: float, *, odds: bool = False
    ) -> Answered | None:
        """What a student (a digest) says of a text; None where it is missing, late or broken."""
        ...

    async def ask_many(self, student: str, texts: Sequence[str]) -> list[Answered] | None:
        """What a student says of many texts, with no hurry; None where it cannot be asked."""
        ...


class Reply(Protocol):
    """An upstream's answer whose status and headers are here, and whose body may be under way.

    The body is what the upstream meant: transfer and content encodings are undone, and the
    headers that spoke of them are gone. Failures of the body raise UpstreamError.
    """

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Headers:
        """End-to-end header fields, names in lower case."""
        ...

    def whole_body(self) -> bytes | None:
        """The body where all of it is here already, the same that `read` gives; else None."""
        ...

    async def read(self) -> bytes:
        """The whole body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; each chunk as soon as it is here."""
        ...

    @property
    def relay(self) -> Callable[[Callable[[bytes], bool]], Awaitable[bool]] | None:
        """Hands chunks to a sink without a task in between, until the sink says False.

        True at the end of the body. None where chunks can only be waited for.
        """
        ...

    def cancel(self) -> None:
        """Give the rest of the body up and close its connection; harmless once it is whole."""
        ...


class Provider(Protocol):
    """Speaks to one upstream."""

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> Reply:
        """Put a call; `sending` is called (and awaited) once, just before its first byte leaves.

        Returns at the answer's headers, whatever its status. Raises UpstreamError where there is
        none; cancelling the caller's task cancels the call.
        """
        ...

    async def close(self) -> None:
        """Let every idle connection go; calls under way end first."""
        ...


class Journal(Protocol):
    """Keeps what happens on disk, in order, before anybody is told that it happened."""

    def append(self, entry: Entry) -> Awaitable[None] | None:
        """Write an entry; None once it survives the death of this process.

        An awaitable where the setting asks for more (a synced disk). StoreError where the disk
        refuses; then nothing of the entry is kept.
        """
        ...

    def close(self) -> None:
        """Sync, and let the segment go."""
        ...


class Desk(Protocol):
    """Reserve before, settle after: holds quotas under concurrency and across processes."""

    def try_hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | None:
        """Reserve from what this process has leased; None where `hold` has to be asked."""
        ...

    async def hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | Denied:
        """Reserve, leasing more from the shared store where that is needed."""
        ...

    def unreserved(self, key_id: str, tags: Tags, model: str) -> Hold:
        """Reserve nothing, for what was bought elsewhere: it is settled as use all the same.

        Only counters of cost and of tokens by the day or longer: no requests, nothing under way.
        """
        ...

    def settle(self, hold: Hold, cost_pico: int, tokens: int) -> None:
        """Put what was used in place of what was reserved, and free the rest."""
        ...

    def release(self, hold: Hold) -> None:
        """Undo a reservation: what it was for was never done."""
        ...


class Counters(Protocol):
    """The shared counters of quotas, with what each worker has leased from them.

    Called from threads other than the one that made it. A failure is a StoreError and changes
    nothing, or it is unknown whether it did: the same `turn` may then be given again.
    """

    def draw(
        self,
        worker: str,
        turn: int,
        at_us: int,
        draws: Sequence[Draw],
        rule: Callable[[Draw, Standing, int], Standing],
    ) -> list[Standing]:
        """Put what a worker used, returns and asks to the counters, all of it or nothing.

        `rule` says how a counter stands after a draw at an instant. Turns of a worker count up from
        1; one that was done already changes nothing and is answered with how things stand.
        """
        ...

    def recalled(self, worker: str, since_us: int) -> list[str]:
        """Counters of which this worker holds a lease that was asked back since an instant."""
        ...

    def leave(self, worker: str) -> None:
        """A worker ends in good order: all that it used has been said, what it held goes back."""
        ...


class Keyring(Protocol):
    """The kept virtual keys; `keys_version` counts up with every change of them."""

    def keys_version(self) -> int:
        """How often keys were changed: cheap to ask every second."""
        ...

    def keys(self) -> tuple[VirtualKey, ...]:
        """All keys, revoked ones included."""
        ...


class Watch(Protocol):
    """Is told of every request once it has ended: metrics, logs, traces."""

    def done(self, done: Done) -> None:
        """Take note; never raises and never waits."""
        ...


class TokenCounter(Protocol):
    """Counts tokens where a provider's own count is missing: an estimate, the same every time."""

    def count(self, text: str) -> int:
        """About how many tokens a text has."""
        ...

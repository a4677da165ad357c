"""What a distillation needs of the outside world, and how it is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stillhouse.core.books import Job
from stillhouse.core.learning import Certificate, Refusal, Target
from stillhouse.core.ports import Recipe, Student
from stillhouse.core.serving import Charter
from stillhouse.flows.metering import Clock


class Workbench(Protocol):
    """Where versions, jobs, artefacts and verdicts of tasks are kept."""

    def add_job(self, job: Job) -> None:
        """Book a metered job."""
        ...

    def put_artefact(self, body: bytes) -> str:
        """Keep bytes under their hash."""
        ...

    def put_student(
        self, task: str, version: int, recipe: str, artefact: bytes, created_us: int
    ) -> str:
        """Keep a student as a version of its task; returns its digest."""
        ...

    def get_student(self, digest: str) -> bytes:
        """The artefact of a student."""
        ...

    def put_charter(self, charter: Charter) -> None:
        """Keep what a version may be asked and how it is judged; it is never changed."""
        ...

    def add_verdict(
        self, task: str, version: int, verdict: Certificate | Refusal, at_us: int
    ) -> None:
        """Keep what was proven, or why nothing may be promised."""
        ...


class Notes(Protocol):
    """Where an interrupted run finds its finished steps again; may be emptied at any time."""

    def get(self, key: str) -> bytes | None:
        """What was kept under a key."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Keep bytes under a key."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """What a distillation needs of the outside world; `encoder` names what the recipes stand on."""

    bench: Workbench
    notes: Notes
    clock: Clock
    recipes: Mapping[str, Recipe]
    read_student: Callable[[bytes], Student]
    say: Callable[[str], None]
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a task's exchanges say of it: the parts of a charter that its rows do not hold.

    `recogniser` is the digest of the artefact by which requests are known, `prompts` the digests
    of the prompts, `asked_models` the names that callers may have asked for and `teachers` the
    models that answered. `images` and `tools` say whether requests carried any. `cost_pico` is what
    an answer cost on average, 0 where none had a price.
    """

    recogniser: str = ""
    prompts: tuple[str, ...] = ()
    asked_models: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    images: bool = False
    tools: bool = False
    cost_pico: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """How to distil; `version` counts the students of the task so far, plus one.

    `facts` go into the charter of the student. Without them nobody is admitted to it.
    """

    target: Target = field(default_factory=Target)
    version: int = 1
    seed: int = 0
    usd_per_core_hour: str = "0.05"
    declared_groups: bool = False
    curve: bool = True
    resume: bool = False
    facts: Facts = Facts()

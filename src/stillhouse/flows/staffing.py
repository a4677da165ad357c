"""Which students are at work now: the fold of the policy events, with what serving them takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.serving import Charter, PolicyEvent, Serving, Terms
from stillhouse.distillation.recognition import Recogniser
from stillhouse.routing import lifecycle


class StaffBooks(Protocol):
    """What is read of the books; a failure is a StoreError."""

    def policy_number(self) -> int:
        """The number of the newest event: cheap to ask every second."""
        ...

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers, oldest first."""
        ...

    def charter(self, task: str, version: int) -> Charter | None:
        """What a version may be asked."""
        ...

    def verdict(self, task: str, version: int) -> Certificate | Refusal | None:
        """The newest verdict on a version."""
        ...

    def get_artefact(self, digest: str) -> bytes:
        """Bytes by their digest."""
        ...


class Roster(NamedTuple):
    """The students at work by task, and how their tasks are recognised.

    `number` is its edition: that of the newest event, or NOBODY's where a task had to be left out.
    """

    number: int
    servings: dict[str, Serving]
    recognisers: list[tuple[Recogniser, frozenset[str]]]


NOBODY = Roster(0, {}, [])


def roster(books: StaffBooks, terms_of: Callable[[str], Terms | None]) -> Roster:
    """Read who is at work; tasks whose terms are None are nobody's but the teacher's.

    A task whose charter or recogniser cannot be read is the teacher's, so that the withdrawal of
    another one is heard of. Raises StoreError where the books cannot be read.
    """
    number = books.policy_number()
    events: dict[str, list[PolicyEvent]] = defaultdict(list)
    for event in books.policy_events():
        events[event.task].append(event)
    servings: dict[str, Serving] = {}
    tasks: dict[str, set[str]] = defaultdict(set)
    known: dict[str, Recogniser] = {}
    for task, history in events.items():
        standing, terms = lifecycle.serving(history), terms_of(task)
        if standing is None or terms is None:
            continue
        try:
            charter = books.charter(task, standing.version)
            if charter is None:
                continue
            if charter.recogniser not in known:
                known[charter.recogniser] = Recogniser.read(books.get_artefact(charter.recogniser))
            verdict = books.verdict(task, standing.version)
        except Exception:  # whatever is wrong with what is kept of one task
            books.policy_number()  # the books themselves are there, or this says so
            number = NOBODY.number
            continue
        certificate = verdict if isinstance(verdict, Certificate) else None
        servings[task] = Serving(charter, standing, terms, certificate)
        tasks[charter.recogniser].add(task)
    recognisers = [(known[digest], frozenset(names)) for digest, names in tasks.items()]
    return Roster(number, servings, recognisers)

"""The work on tasks: what was found, metered jobs, students, verdicts, who served when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b

import orjson

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.errors import StoreError
from stillhouse.core.learning import AnswerShape, Certificate, Refusal, RefusalReason, Task
from stillhouse.core.money import Paid
from stillhouse.core.serving import PolicyEvent
from stillhouse.store.connection import Connection, Database


@dataclass(frozen=True, slots=True)
class StudentVersion:
    """One version of a task: its student, if one was fitted, and the last verdict on it."""

    task: str
    version: int
    recipe: str
    student: str
    created_us: int
    verdict: Certificate | Refusal | None


class Workshop:
    """Tasks, jobs, students, verdicts and policy events; all but the tasks are append-only."""

    _database: Database

    def save_tasks(
        self,
        tasks: Iterable[Task],
        rows: Iterable[tuple[str, str, str]],
        recogniser: bytes = b"",
    ) -> None:
        """Replace what was found in the traffic: tasks, and rows of (exchange_id, task, text).

        `text` is the variable part of the request. Rows of exchanges that are not here, or of
        tasks that are not among `tasks`, are an error and nothing is replaced. `recogniser` is the
        artefact by which requests of these tasks are known; without one, none is.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM recogniser")
            if recogniser:
                digest = _put_artefact(connection, recogniser)
                connection.execute("INSERT INTO recogniser VALUES (?)", (digest,))
            connection.execute("DELETE FROM task_rows")
            connection.execute("DELETE FROM tasks")
            connection.executemany(
                "INSERT INTO tasks (name, task) VALUES (?, ?)",
                ((task.name, orjson.dumps(task).decode()) for task in tasks),
            )
            numbers = dict(connection.execute("SELECT name, id FROM tasks"))
            connection.executemany(
                "INSERT INTO task_rows VALUES "
                "((SELECT coalesce(max(id), -1) FROM exchanges WHERE exchange_id = ?), ?, ?)",
                ((bytes.fromhex(row), numbers.get(task, -1), text) for row, task, text in rows),
            )
        self._database.survey()

    def tasks(self) -> tuple[Task, ...]:
        """The tasks that were found, in the order in which they were saved."""
        found = (
            orjson.loads(task)
            for (task,) in self._database.rows("SELECT task FROM tasks ORDER BY id")
        )
        return tuple(
            Task(
                **task
                | {
                    "shape": AnswerShape(task["shape"]),
                    "labels": tuple(task["labels"]),
                    "fields": tuple(task["fields"]),
                }
            )
            for task in found
        )

    def recogniser(self) -> str:
        """The digest of the artefact by which the tasks' requests are known; empty for none."""
        for (digest,) in self._database.rows("SELECT artefact FROM recogniser"):
            return str(digest)
        return ""

    def add_job(self, job: Job) -> None:
        """Book a piece of metered work; a job id is used once."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.job_id,
                    job.task,
                    job.kind.value,
                    job.status.value,
                    job.started_us,
                    job.wall_seconds,
                    job.cpu_seconds,
                    job.cost.pico,
                    job.cost.currency,
                    orjson.dumps(dict(job.detail)).decode(),
                ),
            )

    def jobs(self, task: str) -> tuple[Job, ...]:
        """Every job on a task, failed ones included, in the order of their booking."""
        return tuple(
            Job(
                job_id=job_id,
                task=task,
                kind=JobKind(kind),
                status=JobStatus(status),
                started_us=started_us,
                wall_seconds=wall_seconds,
                cpu_seconds=cpu_seconds,
                cost=Paid(pico, currency),
                detail=orjson.loads(detail),
            )
            for (
                job_id,
                kind,
                status,
                started_us,
                wall_seconds,
                cpu_seconds,
                pico,
                currency,
                detail,
            ) in self._database.rows(
                "SELECT job_id, kind, status, started_us, wall_seconds, cpu_seconds, cost_pico, "
                "currency, detail FROM jobs WHERE task = ? ORDER BY rowid",
                task,
            )
        )

    def put_artefact(self, body: bytes) -> str:
        """Keep bytes under the hash of their content, which is returned; twice is once."""
        with self._database.transaction() as connection:
            return _put_artefact(connection, body)

    def get_artefact(self, digest: str) -> bytes:
        """The bytes kept under a hash. Raises StoreError where there are none or others."""
        for (body,) in self._database.rows("SELECT body FROM artefacts WHERE digest = ?", digest):
            if blake2b(body, digest_size=16).hexdigest() != digest:
                raise StoreError(
                    f"artefact {digest} in {self._database.place} does not match its hash; restore "
                    "the file from a copy"
                )
            content: bytes = body
            return content
        raise StoreError(
            f"there is no artefact {digest} in {self._database.place}; give the digest of a "
            "student of this database"
        )

    def put_student(
        self, task: str, version: int, recipe: str, artefact: bytes, created_us: int
    ) -> str:
        """Keep a fitted student as this version of its task; returns its digest."""
        digest = self.put_artefact(artefact)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO students VALUES (?, ?, ?, ?, ?)",
                (task, version, recipe, digest, created_us),
            )
        return digest

    def get_student(self, digest: str) -> bytes:
        """The artefact of a student. Raises StoreError where there is none."""
        return self.get_artefact(digest)

    def add_verdict(
        self, task: str, version: int, verdict: Certificate | Refusal, at_us: int
    ) -> None:
        """Keep what was proven about a version of a task, or why nothing may be promised."""
        kind = "certificate" if isinstance(verdict, Certificate) else "refusal"
        facts = orjson.dumps(asdict(verdict), option=orjson.OPT_SERIALIZE_NUMPY)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO verdicts (task, version, kind, verdict, at_us) VALUES (?, ?, ?, ?, ?)",
                (task, version, kind, facts.decode(), at_us),
            )

    def versions(self, task: str) -> tuple[StudentVersion, ...]:
        """Every version of a task in order, refused ones and those without a student included."""
        return tuple(
            StudentVersion(
                task, version, recipe, student, created_us, _verdict(kind, body) if kind else None
            )
            for version, recipe, student, created_us, kind, body in self._database.rows(
                _VERSIONS, task
            )
        )

    def verdict(self, task: str, version: int) -> Certificate | Refusal | None:
        """The last verdict on a version of a task; None where there is none yet."""
        for kind, body in self._database.rows(
            "SELECT kind, verdict FROM verdicts WHERE task = ? AND version = ? "
            "ORDER BY id DESC LIMIT 1",
            task,
            version,
        ):
            return _verdict(kind, body)
        return None

    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        """Keep a change of who answers a task; returns its number.

        With `expected`, the number of the newest event of the task that the change was decided on
        (0 for none): where there is a newer one by now, nothing is kept and 0 is returned. So no
        decision overrides another that it knew nothing of.
        """
        with self._database.transaction() as connection:
            ((newest,),) = connection.execute(
                "SELECT coalesce(max(id), 0) FROM policy_events WHERE task = ?", (event.task,)
            )
            if expected is not None and newest != expected:
                return 0
            ((number,),) = connection.execute(
                "INSERT INTO policy_events (task, version, event, why, who, at_us, detail) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (*event[:6], orjson.dumps(dict(event.detail)).decode()),
            )
            return int(number)

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers a task, oldest first; of all tasks where none is named."""
        for *facts, detail, number in self._database.rows(
            "SELECT task, version, event, why, who, at_us, detail, id FROM policy_events "
            "WHERE task = ? OR ? = '' ORDER BY id",
            task,
            task,
        ):
            yield PolicyEvent._make((*facts, orjson.loads(detail), number))

    def policy_number(self) -> int:
        """The number of the newest policy event, 0 for none: cheap to ask every second.

        Who has seen a number finds all events up to it, for they are kept one after the other.
        """
        ((number,),) = self._database.rows("SELECT coalesce(max(id), 0) FROM policy_events")
        return int(number)


_VERSIONS = """
SELECT version, coalesce(recipe, ''), coalesce(artefact, ''), coalesce(created_us, at_us), kind,
    verdict
FROM (
    SELECT task, version FROM students UNION SELECT task, version FROM verdicts
) known
LEFT JOIN students USING (task, version)
LEFT JOIN verdicts USING (task, version)
WHERE task = ? AND (id IS NULL OR id = (
    SELECT max(id) FROM verdicts last WHERE last.task = known.task AND last.version = known.version
)) ORDER BY version
"""


def _put_artefact(connection: Connection, body: bytes) -> str:
    digest = blake2b(body, digest_size=16).hexdigest()
    connection.execute(
        "INSERT INTO artefacts VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", (digest, body)
    )
    return digest


def _verdict(kind: str, body: str) -> Certificate | Refusal:
    facts = orjson.loads(body)
    if kind == "certificate":
        return Certificate(**facts)
    return Refusal(RefusalReason(facts["reason"]), facts["sentence"], facts["figures"])

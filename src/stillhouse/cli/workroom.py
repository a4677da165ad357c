"""What several verbs need: a task by name, its rows, its newest version, its student."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from stillhouse.core.books import Job, JobKind
from stillhouse.core.catalogue import Catalogue
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Policy, Refusal, Task
from stillhouse.core.traffic import Completion, Tags
from stillhouse.distillation.answers import normalise_label, read_answer
from stillhouse.distillation.dataset import Answered, answered_row
from stillhouse.flows.chartering import gather_facts, mean_cost, names_of
from stillhouse.flows.replay import Recorded
from stillhouse.flows.workbench import Facts
from stillhouse.settings.reading import USUAL_FILE
from stillhouse.settings.starting import CONFIG_ENV, find_settings
from stillhouse.store.face import Store

GROUPS = ("customer", "feature", "team", "region")


def known_task(store: Store, name: str) -> Task:
    """The task of this name; CallerError with the names there are."""
    tasks = {task.name: task for task in store.tasks()}
    if name not in tasks:
        there = ", ".join(tasks) if tasks else "none yet; run `stillhouse tasks` first"
        raise CallerError(f"there is no task {name!r}; found so far: {there}")
    return tasks[name]


def answered_rows(store: Store, task: str, group_by: str = "") -> list[Answered]:
    """The answered requests of a task in time order, with the declared group of each."""
    tags = {e.exchange_id: e.tags for e in store.exchanges(task=task)} if group_by else {}
    return [
        replace(
            answered_row(
                row.exchange_id,
                row.text,
                Completion(row.answer, row.tool, row.tool_arguments),
                getattr(tags.get(row.exchange_id, Tags()), group_by) if group_by else "",
            ),
            audited=bool(row.audits),
        )
        for row in store.task_rows(task)
    ]


def traffic_facts(store: Store, task: str) -> Facts:
    """What the task's exchanges say of it, for the charter of a student.

    A route of the configuration in this folder, if there is one, is a name for its models.
    """
    digest = store.recogniser()
    if not digest:
        return Facts()
    body, catalogue = store.get_artefact(digest), _catalogue_here()
    facts = gather_facts(
        task, store.exchanges(task=task), body, digest, partial(names_of, catalogue)
    )
    cost = mean_cost(row.billed_pico for row in store.task_rows(task))
    return replace(facts, cost_pico=cost)


def _catalogue_here() -> Catalogue:
    if CONFIG_ENV in os.environ or USUAL_FILE.exists():
        return find_settings(None).catalogue
    return Catalogue({}, {})


def recorded_rows(store: Store, task: str, without: frozenset[str]) -> Iterator[Recorded]:
    """The rows of a task as a replay wants them, less those named.

    Where a student had a part in who answered, what was left to the teacher is no fair sample of
    the traffic: of those rows only the ones that the coin chose are replayed.
    """
    for row in store.task_rows(task):
        if row.audits and row.exchange_id not in without:
            said = read_answer(Completion(row.answer, row.tool, row.tool_arguments)).value
            label = normalise_label(said)
            yield Recorded(
                row.exchange_id,
                row.at_us,
                row.text,
                label,
                row.latency_ms,
                row.billed_pico,
                row.model,
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task stands: its newest version with a verdict, and all its jobs."""

    task: str
    version: int
    recipe: str
    student: str
    verdict: Certificate | Refusal | None
    jobs: tuple[Job, ...]
    fitted: int = 0

    @property
    def next_version(self) -> int:
        """The number of the next version: a refusal before any student was fitted costs none."""
        return self.fitted + 1

    @property
    def latest_jobs(self) -> list[Job]:
        """The jobs of the newest version."""
        return [job for job in self.jobs if job.detail.get("version") == str(self.version)]

    def policy(self) -> Policy:
        """The policy that the certificate allows; CallerError where there is none."""
        if not isinstance(self.verdict, Certificate):
            why = self.verdict.sentence if self.verdict else "nobody has tried yet"
            raise CallerError(
                f"no student of {self.task} is certified ({why}); run `stillhouse distil "
                f"{self.task}`"
            )
        return Policy(self.task, self.verdict.student, self.verdict.threshold, self.version)


def standing(store: Store, task: str) -> Standing:
    """Where a task stands."""
    versions = store.versions(task)
    jobs = store.jobs(task)
    if not versions:
        return Standing(task, 0, "", "", None, jobs)
    last = versions[-1]
    fitted = max((found.version for found in versions if found.student), default=0)
    return Standing(task, last.version, last.recipe, last.student, last.verdict, jobs, fitted)


def members(store: Store, jobs: Sequence[Job]) -> dict[str, list[str]]:
    """Which rows the newest version was trained, calibrated and tested on."""
    for job in reversed(jobs):
        if job.kind is JobKind.CALIBRATE and "membership" in job.detail:
            content: dict[str, list[str]] = orjson.loads(
                store.get_artefact(job.detail["membership"])
            )
            return {name: content[name] for name in ("train", "calibration", "test")}
    return {"train": [], "calibration": [], "test": []}

"""`[students]`: what a table cannot say by itself, the tasks of their own and the webhook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from stillhouse.core.errors import ConfigError
from stillhouse.settings.addresses import fault_of_url
from stillhouse.settings.complaints import Complaints, shown
from stillhouse.settings.nouns import Students, TaskStudents
from stillhouse.settings.student_tables import STUDENTS_TASK
from stillhouse.settings.tables import read_table


def read_students(students: Students, complaints: Complaints) -> Students:
    """Students as their table says, with the tables of tasks read; what is wrong is complained."""
    _check_webhook(students, complaints)
    tasks = {}
    for name, table in students.tasks.items():
        at = ("students", "tasks", name)
        if not name.strip():
            complaints.say(at, 'has no name; write the task\'s, as in [students.tasks."NAME"]')
        elif not isinstance(table, Mapping):
            complaints.say(at, f'is {shown(table)}; write a table under [students.tasks."{name}"]')
            continue
        tasks[name] = TaskStudents(**read_table(table, STUDENTS_TASK, at, complaints))
    return replace(students, tasks=tasks)


def webhook_secret(students: Students, env: Mapping[str, str] = os.environ) -> str:
    """The secret that notices are signed by; empty where none is named.

    ConfigError where it is named and not there: a receiver would refuse every notice.
    """
    named = students.webhook_secret_env
    if named and not env.get(named):
        raise ConfigError(
            f"students.webhook_secret_env names {named}, which is not set; put the webhook's "
            "secret there"
        )
    return env[named] if named else ""


def _check_webhook(students: Students, complaints: Complaints) -> None:
    url = students.webhook_url
    if url and (fault := fault_of_url(url, students.webhook_allow_private)):
        fault = fault.replace("allow_private", "webhook_allow_private")
        complaints.say(("students", "webhook_url"), fault)
    if students.webhook_secret_env and not url:
        complaints.say(
            ("students", "webhook_secret_env"),
            "signs nothing; name the address that notices go to in webhook_url",
        )

from __future__ import annotations

import pytest

from stillhouse.core.errors import ConfigError
from stillhouse.core.learning import Target
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.core.serving import Terms
from stillhouse.settings.nouns import Settings, Students, TaskStudents
from stillhouse.settings.reading import pack, parse_settings, unpack
from stillhouse.settings.students import webhook_secret

FULL = """
[students]
shadow_share = 0.2
promote = "auto"
bridge = true
run_length = 1000
deadline_ms = 80
on_alarm = "stop"
canary_share = 0.5
retrain = "auto"
max_risk = 0.1
confidence = 0.9
shadow_budget = ["5/day", "$100.50/month"]
webhook_url = "https://alerts.example.com/stillhouse"
webhook_secret_env = "HOOK_SECRET"

[students.tasks."Which intent? #1"]
shadow_share = 1
promote = "manual"
on_alarm = "raise"

[students.tasks.spam]
enabled = false
"""


def parsed(text: str) -> Settings:
    return parse_settings(f"{text}\n[upstreams.openai]\n", {}, "s.toml")


def one_wrong(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    (only,) = str(caught.value).splitlines()
    return only


def test_every_key_of_the_table_is_read() -> None:
    students = parsed(FULL).students
    assert students.terms("any other") == Terms(0.2, True, True, 1000.0, 0.08, "stop", 0.5)
    assert students.target == Target(0.1, 0.9)
    assert students.shadow_budget == (
        Quota(Scope.KEY, "*", Unit.COST, Window.DAY, 5 * 10**12),
        Quota(Scope.KEY, "*", Unit.COST, Window.MONTH, 100_500_000_000_000),
    )
    assert students.webhook_url == "https://alerts.example.com/stillhouse"


def test_a_task_has_its_own_terms_and_the_rest_from_all_tasks() -> None:
    students = parsed(FULL).students
    assert students.terms("Which intent? #1") == Terms(1.0, False, True, 1000.0, 0.08, "raise", 0.5)


def test_a_task_can_be_left_to_its_teacher_and_so_can_all() -> None:
    students = parsed(FULL).students
    assert (students.may_serve("spam"), students.may_serve("other")) == (False, True)
    off = parsed("[students]\nenabled = false\n[students.tasks.a]\nenabled = true\n").students
    assert not off.may_serve("a")


def test_without_the_table_a_person_promotes_and_nobody_is_told() -> None:
    students = parsed("").students
    assert students == Students()
    assert students.terms("t") == Terms()
    assert webhook_secret(students, {}) == ""


def test_students_survive_the_way_to_another_process() -> None:
    settings = parsed(FULL)
    assert unpack(pack(settings)) == settings
    assert isinstance(unpack(pack(settings)).students.tasks["spam"], TaskStudents)


def test_the_secret_of_the_webhook_is_in_the_environment_or_it_is_said() -> None:
    students = parsed(FULL).students
    assert webhook_secret(students, {"HOOK_SECRET": "s"}) == "s"
    with pytest.raises(ConfigError, match="names HOOK_SECRET, which is not set"):
        webhook_secret(students, {})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("shadow_share = 0", "shadow_share is 0; it must be a number from 0.001 to 1"),
        ("promote = 'yes'", "students.promote is 'yes'; it must be one of manual, auto"),
        ("on_alarm = 'panic'", "it must be one of raise, stop"),
        ("run_length = 10", "run_length is 10; it must be a number from 100 to"),
        ("retrain_rows = 0.5", "it must be a whole number of at least 1"),
        ("max_risk = 1", "max_risk is 1; it must be a number from 0.001 to 0.5"),
        ("shadow_budget = '5/day'", "it must be a list of caps in dollars"),
        ("shadow_budget = [5]", "it must be a list of caps in dollars"),
        ("shadow_budget = ['5']", "has '5', which has no window; write USD/minute|hour|day"),
        ("shadow_budget = ['five/day']", "has 'five/day', which is no amount"),
        ("shadow_budget = ['5/now']", "has no window"),
        ("shadow_budget = ['5/day', '6/day']", "has two caps per day"),
        ("webhook_url = 'http://169.254.169.254/x'", "leads to a cloud's own metadata"),
        ("webhook_url = 'https://10.0.0.7/x'", "say webhook_allow_private = true"),
        ("webhook_url = 'http://hooks.example.com/x'", "is not encrypted; use https, or say webh"),
        ("webhook_secret_env = 'S'", "signs nothing; name the address"),
        ("webhook_secret = 'S'", "students.webhook_secret is not known"),
        ("tasks = 1", "students.tasks is 1; it must be a table"),
        ("tasks = {a = 1}", 'students.tasks.a is 1; write a table under [students.tasks."a"]'),
        ("tasks = {a = {deadline_ms = 1}}", "students.tasks.a.deadline_ms is not known"),
        ("tasks = {' ' = {}}", "has no name"),
    ],
)
def test_each_mistake_has_a_sentence(keys: str, sentence: str) -> None:
    assert sentence in one_wrong(f"[students]\n{keys}")


def test_a_private_webhook_may_be_meant() -> None:
    said = "[students]\nwebhook_url = 'http://127.0.0.1:9/x'\nwebhook_allow_private = true"
    assert parsed(said).students.webhook_allow_private

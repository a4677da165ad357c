"""The whole loop on the bundled workload, once, and what each verb says of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.demo_verb import TASK


def stillhouse(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stillhouse", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    stillhouse("demo", "--out", str(out))
    return out


@pytest.fixture
def ask(demo: Path) -> Callable[..., dict[str, Any]]:
    def ask(*words: str, code: int = 0) -> dict[str, Any]:
        done = stillhouse("--db", str(demo / "demo.db"), *words, "--json", code=code)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return ask


def test_the_demo_writes_a_page_that_loads_nothing_from_elsewhere(demo: Path) -> None:
    page = (demo / "report.html").read_text("utf-8")
    for picture in ("Risk against accept rate", "Break-even", "<svg"):
        assert picture in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page


def test_the_bundled_task_is_found_without_a_tag(ask: Callable[..., dict[str, Any]]) -> None:
    names = {task["name"]: task for task in ask("tasks")["tasks"]}
    assert names[TASK]["shape"] == "labels"
    assert len(names[TASK]["labels"]) == 24


def test_replay_of_unseen_rows_keeps_the_promise(ask: Callable[..., dict[str, Any]]) -> None:
    found = ask("replay", TASK)
    assert found["requests"] > 400
    assert found["accept_rate"] > 0.25
    assert found["agreement_interval"][1] >= 0.95
    assert found["accepted"] + found["teacher_calls"] == found["requests"]
    assert sum(day["requests"] for day in found["days"]) == found["requests"]


def test_a_small_shop_is_told_not_to_distil_and_a_large_one_to(
    ask: Callable[..., dict[str, Any]],
) -> None:
    assert ask("plan", TASK)["verdict"] == "do_not_distil"
    large = ask("plan", TASK, "--volume", "1000000")
    assert large["verdict"] == "distil"
    assert large["with_people"]["probability_within_horizon"] > 0.8


def test_a_repriced_plan_says_so(ask: Callable[..., dict[str, Any]]) -> None:
    found = ask("plan", TASK, "--teacher-price", "openai/gpt-6-astra")
    assert found["basis"]["teacher"] == "repriced at openai/gpt-6-astra"
    assert found["evidence"] == "scenario"


def test_distilling_again_spends_a_smaller_budget_and_has_the_promised_fields(
    ask: Callable[..., dict[str, Any]],
) -> None:
    found = ask("distil", TASK, "--no-curve", "--max-risk", "0.1")
    assert found["outcome"] == "certified"
    assert found["version"] == 2
    wanted = {"threshold", "accept_rate", "max_risk", "confidence", "n_calibration",
              "n_accepted", "n_disagreements"}  # fmt: skip
    assert wanted <= set(found["certificate"])
    assert {"n", "agreement", "accept_rate", "accepted_agreement"} <= set(found["test"])
    assert float(found["cost"]["usd"]) > 0


def test_a_refusal_is_exit_code_1_with_its_reason(ask: Callable[..., dict[str, Any]]) -> None:
    found = ask("distil", "review-facts", code=1)
    assert (found["outcome"], found["reason"]) == ("refused", "not_a_label_task")
    assert found["certificate"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("distil", "nobody"), "there is no task 'nobody'"),
        (("replay", "nobody"), "there is no task 'nobody'"),
        (("plan", "nobody"), "there is no task 'nobody'"),
        (("distil", TASK, "--max-risk", "7"), "max_risk is 7.0"),
        (("plan", TASK, "--price-per-error", "dear"), "--price-per-error is 'dear'"),
        (("plan", TASK, "--teacher-price", "no-such-model"), "no price for 'no-such-model'"),
        (("replay", TASK, "--shadow", "3"), "--shadow is 3.0"),
        (("distil", TASK, "--encoder", "/nowhere"), "no encoder in '/nowhere'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    demo: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = stillhouse("--db", str(demo / "demo.db"), *words, code=2)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_a_missing_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    done = stillhouse("--db", str(tmp_path / "none.db"), "plan", "x", code=2)
    assert "stillhouse import" in done.stderr
    assert not (tmp_path / "none.db").exists()


BANKING = "banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz"
PROMPT = "banking77_deepseek/banking77_teacher_prompt.md"


def test_recorded_banking77_is_not_worth_distilling_for_money_until_the_teacher_is_dear(
    recorded: Path, tmp_path: Path
) -> None:
    database = ("--db", str(tmp_path / "b77.db"))
    settings = ["model=deepseek/deepseek-v4.1-flash", "host=deepinfra/fp8",
                f"system=@{recorded / PROMPT}"]  # fmt: skip
    sets = [word for setting in settings for word in ("--set", setting)]
    stillhouse(*database, "import", str(recorded / BANKING), *sets)
    (task,) = json.loads(stillhouse(*database, "tasks", "--json").stdout)["tasks"]
    name = task["name"]
    told = json.loads(stillhouse(*database, "distil", name, "--no-curve", "--json").stdout)
    assert told["certificate"]["accept_rate"] > 0.6
    assert told["test"]["accepted_agreement"] > 0.93
    billed = json.loads(stillhouse(*database, "plan", name, "--json").stdout)
    assert billed["verdict"] == "do_not_distil"
    assert billed["basis"]["teacher"] == "billed"
    assert "Do not distil for money: the teacher costs $0.0061 per 1,000" in billed["sentence"]
    premium = ("--teacher-price", "openai/gpt-6-astra", "--volume", "1000000")
    dear = json.loads(stillhouse(*database, "plan", name, *premium, "--json").stdout)
    assert dear["verdict"] == "distil"
    assert dear["basis"]["teacher"] == "repriced at openai/gpt-6-astra"

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""

ASKED = {"model": "any", "messages": [{"role": "user", "content": "hello"}]}
SCRIPTED = "[upstreams.here]\nkind = 'scripted'\n[models.{name}]\n"


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The endpoint as people start it, on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stillhouse", "serve", "--port", "0", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.endswith("_KEY")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first.startswith("Stillhouse answers at http://127.0.0.1:"), process.communicate()
        yield process, int(first.rpartition(":")[2].partition("/")[0])
    finally:
        process.kill()
        if not process.stdout.closed:
            rest_of(process)


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says until it ends; not `communicate`, which skips what `readline` has read on."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        said = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return said


def post(port: int, path: str, body: object) -> tuple[int, Any]:
    """The status and the body of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as caller:
        caller.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        with caller.getresponse() as answer:
            return answer.status, json.loads(answer.read())


def models(port: int) -> list[str]:
    """The names of the models that are served."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as caller:
        caller.request("GET", "/v1/models")
        with caller.getresponse() as answer:
            return [model["id"] for model in json.loads(answer.read())["data"]]


def test_a_first_try_needs_no_key_and_ends_up_in_the_books(run: Run, tmp_path: Path) -> None:
    with served(tmp_path, "--scripted") as (process, port):
        status, body = post(port, "/v1/chat/completions", ASKED)
        process.send_signal(signal.SIGTERM)
        said, errors = rest_of(process)
    assert status == 200
    assert body["choices"][0]["message"]["content"]
    assert "curl http://127.0.0.1:" in said
    assert process.returncode == 0, errors
    books = run("--db", "stillhouse-scripted.db", "ledger", "--json").json
    assert books["total"]["requests"] == 1
    assert not (tmp_path / "stillhouse.db").exists()


def test_a_changed_configuration_counts_after_a_hang_up_and_a_broken_one_does_not(
    tmp_path: Path,
) -> None:
    config = tmp_path / "stillhouse.toml"
    config.write_text(SCRIPTED.format(name="before"), "utf-8")
    with served(tmp_path) as (process, port):
        assert process.stderr is not None
        config.write_text("[upstreams.here]\nkind = 'scripted'\nweight = 1", "utf-8")
        process.send_signal(signal.SIGHUP)
        assert "not reloaded" in process.stderr.readline()
        assert "stillhouse.toml:3: upstreams.here.weight is not known" in process.stderr.readline()
        config.write_text(SCRIPTED.format(name="after"), "utf-8")
        process.send_signal(signal.SIGHUP)
        assert "reloaded" in process.stderr.readline()
        while (listed := models(port)) == ["before"]:
            pass  # the old worker is about to leave
        process.send_signal(signal.SIGTERM)
        rest_of(process)
    assert listed == ["after"]


def test_nobody_listens_beyond_loopback_before_a_key_is_made(run: Run) -> None:
    said = run("serve", "--scripted", "--host", "0.0.0.0")
    assert said.code == 2
    assert "0.0.0.0 can be reached by others and no virtual key exists" in said.err
    assert "stillhouse keys create" in said.err


def test_replay_and_scripted_exclude_each_other(run: Run) -> None:
    assert run("serve", "--scripted", "--replay", "x").code == 2
    assert "there is no log at x" in run("serve", "--replay", "x").err


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_a_broken_configuration_is_said_whole(run: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = 0.5\nworkers = 0", "utf-8")
    said = run(verb, "--config", "bad.toml")
    assert said.code == 2
    assert [line.partition(" ")[0] for line in said.err.splitlines()[1:]] == [
        "bad.toml:2:",
        "bad.toml:3:",
    ]

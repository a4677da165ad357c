"""What holds for the house as a whole, whichever room is worked on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from click.testing import CliRunner

import stillhouse
from stillhouse.cli import VERBS, cli

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stillhouse"
PURE_ROOMS = ("core", "dialects", "distillation", "ledger", "planner", "risk", "routing")
HEAVY = {"genai_prices", "httpx2", "huggingface_hub", "onnxruntime", "sklearn", "tokenizers"}
LINES_OF_A_FILE = 400
UNLOCKED = {"any-llm-sdk"}  # wants an older anthropic than the tests talk to the endpoint with

WATCHED_START = """
import sys

def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sys.exit(f"the network was touched: {event} {details}")

sys.addaudithook(watch)
from stillhouse.cli import cli
cli.main(["--help"], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""

IMPURE_CALLS = {"input", "now", "open", "print", "read_bytes", "read_text", "today", "utcnow"}

FOREIGN_PLACES = re.compile(
    r"(?<![\w.])/(?:home|root|Users)/[\w.]"  # somebody's own folder
    r"|\bpypi\.org/simple|\bfiles\.pythonhosted\.|--(?:extra-)?index-url|--find-links"
)


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    """A command that was run at the root of the project."""
    return subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)


def test_the_version_is_the_newest_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+\S*?)\]?(?:\s|$)", changelog, re.MULTILINE)
    assert newest, "CHANGELOG.md has no heading of a version"
    assert newest[1] == stillhouse.__version__


def test_a_start_loads_no_heavy_library_and_touches_no_network() -> None:
    started = ran(sys.executable, "-c", WATCHED_START)
    assert started.returncode == 0, started.stderr
    loaded = {name.partition(".")[0] for name in started.stderr.split()}
    assert "click" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_else() -> None:
    names = "import sys, stillhouse; print(*(n for n in sys.modules if n.startswith('stillhouse')))"
    assert ran(sys.executable, "-c", names).stdout.split() == ["stillhouse"]


def test_the_help_shows_every_verb() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    assert [verb for verb in VERBS if not re.search(rf"^  {verb} ", shown.output, re.M)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_examples(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0
    _, heading, examples = shown.output.partition("  Examples:\n")
    assert heading, f"`stillhouse {verb} --help` has no examples"
    assert re.search(rf"stillhouse (?:--db \S+ )?{verb}\b", examples)


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_OF_A_FILE
    }
    assert long == {}


def _impure_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in IMPURE_CALLS:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {name}()"


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_a_pure_room_opens_no_file_and_asks_no_clock(room: str) -> None:
    files = list((SOURCE / room).rglob("*.py"))
    assert files
    assert [call for path in files for call in _impure_calls(path)] == []


def test_text_files_name_no_package_index_and_nobodys_folder() -> None:
    listed = ran("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            places = FOREIGN_PLACES.findall(content.decode("utf-8"))
            found.update({name: places} if places else {})
    found.pop("tests/test_house.py", None)
    assert found == {}


def test_the_locks_pin_every_package_by_hash() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "requirements-dev.lock"):
        pins = re.split(r"^(?=[a-z])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        assert len(pins) > 20
        assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_the_locks_hold_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for lock, declared in {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": [
            *project["dependencies"],
            *(need for extra in project["optional-dependencies"].values() for need in extra),
        ],
    }.items():
        pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text("utf-8"), re.MULTILINE))
        names = {re.split(r"[^\w-]", need)[0] for need in declared} - {"stillhouse", *UNLOCKED}
        assert names - pinned == set(), f"{lock} is behind pyproject.toml; run make lock"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel as it would be published."""
    target = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory")
    built = ran(*build, str(target))
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_what_the_package_reads_at_run_time(wheel: zipfile.ZipFile) -> None:
    ours = {name.removeprefix("stillhouse/") for name in wheel.namelist()}
    assert {
        "py.typed",
        "catalogues/prices.yaml",
        "demo/larkspur.jsonl.gz",
        "demo/prices.yaml",
        "students/assets/minilm_l6.onnx",
        "students/assets/vocab.txt",
    } <= ours


def test_the_wheel_carries_every_module_and_its_licences(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {str(path.relative_to(SOURCE.parent)) for path in SOURCE.rglob("*.py")}
    assert modules - names == set()
    facts = f"stillhouse-{stillhouse.__version__}.dist-info"
    assert {f"{facts}/licenses/LICENSE", f"{facts}/licenses/NOTICE"} <= names
    metadata = Parser().parsestr(wheel.read(f"{facts}/METADATA").decode("utf-8"))
    assert metadata["Name"] == "stillhouse"
    assert metadata["License-Expression"] == "Apache-2.0"

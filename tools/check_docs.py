"""Check that the docs say what is so; `--write` writes the generated pages again.

    python tools/check_docs.py [--write]

Three things are checked. docs/reference/cli.md is what the command line's own help says, and
docs/reference/configuration.md what the reader of the configuration knows. Every relative link in
README.md and docs/ leads to a file and, after `#`, to one of its headings. And every console block
under the line `<!-- run -->` runs: its commands, each after a `$`, end with exit code 0 and print
what stands under them (`...` for any text, nothing for anything). The blocks of a page run one
after the other in one folder that is thrown away, beside what the project holds.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from stillhouse.cli import cli
from stillhouse.settings.page import configuration_page

ROOT = Path(__file__).parents[1]
CLI_PAGE = ROOT / "docs" / "reference" / "cli.md"
CONFIGURATION_PAGE = ROOT / "docs" / "reference" / "configuration.md"
WIDTH = 88

CLI_HEAD = """\
# The command line

Written by `make docs` from the program's own help; do not edit.
"""

FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
LINK = re.compile(
    r"""\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)|(?:href|src)="([^"]+)"|^\[.+?\]: +(\S+)""", re.M
)
RUN = re.compile(r"^<!-- run -->\n+```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (.*(?:(?<=\\)\n.*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def command_line_page() -> str:
    """The reference of the command line: the help of the program and of each verb."""
    program = click.Context(
        cli, info_name="stillhouse", terminal_width=WIDTH, **cli.context_settings
    )
    shown = [CLI_HEAD, _help("stillhouse", cli, program)]
    for name in cli.list_commands(program):
        verb = cli.get_command(program, name)
        assert verb is not None
        within = click.Context(verb, info_name=name, parent=program, terminal_width=WIDTH)
        shown.append(_help(f"stillhouse {name}", verb, within))
    return "\n".join(shown)


def _help(title: str, command: click.Command, context: click.Context) -> str:
    return f"## {title}\n\n```text\n{command.get_help(context)}\n```\n"


def wrong_links(page: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere."""
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for link in ("".join(found) for found in LINK.findall(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:|/", link):
            continue
        place, _, heading = link.partition("#")
        target = (page.parent / place) if place else page
        if not target.exists():
            yield f"{page.relative_to(ROOT)}: the link {link} leads to no file"
        elif heading and target.suffix == ".md" and heading not in anchors(target):
            yield f"{page.relative_to(ROOT)}: the link {link} leads to no heading"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    titles = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def wrong_examples(page: Path) -> Iterator[str]:
    """The commands of a page that fail, or print something else than the page says."""
    blocks = RUN.findall(page.read_text(encoding="utf-8"))
    if not blocks:
        return
    with TemporaryDirectory() as folder:
        for entry in ROOT.iterdir():
            if entry.is_dir() and not entry.name.startswith("."):
                (Path(folder) / entry.name).symlink_to(entry)
        for command, expected in (step for block in blocks for step in STEP.findall(block)):
            fault = _fault(command, expected, Path(folder))
            if fault:
                yield f"{page.relative_to(ROOT)}: $ {command}\n{fault}"


def _fault(command: str, expected: str, folder: Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        check=False,
        env={**os.environ, "PATH": path, "COLUMNS": str(WIDTH)},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        return f"ends with exit code {ran.returncode}:\n{ran.stdout}{ran.stderr}"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if expected.strip() and not doctest.OutputChecker().check_output(expected, ran.stdout, flags):
        return f"should print:\n{expected}and prints:\n{ran.stdout}"
    return ""


def main() -> int:
    """Check everything; the exit code."""
    pages = {CLI_PAGE: command_line_page(), CONFIGURATION_PAGE: configuration_page()}
    if "--write" in sys.argv[1:]:
        for place, page in pages.items():
            place.write_text(page, encoding="utf-8")
        return 0
    wrong = [
        f"{place.relative_to(ROOT)} is behind the program; run make docs"
        for place, page in pages.items()
        if not place.is_file() or place.read_text(encoding="utf-8") != page
    ]
    for found in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        wrong += [*wrong_links(found), *wrong_examples(found)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

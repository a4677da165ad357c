"""The reference page of the configuration, written from the tables that the reader reads by.

python -m stillhouse.settings.page > docs/reference/configuration.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any

from stillhouse.core.catalogue import Deployment, Route, Timeouts, Upstream
from stillhouse.settings.kinds import SIZE, Field
from stillhouse.settings.presets import PRESETS
from stillhouse.settings.student_tables import STUDENTS_TASK
from stillhouse.settings.tables import (
    BUDGET,
    DEPLOYMENT,
    MODEL,
    SECTIONS,
    UPSTREAM,
)

HEAD = """\
# The configuration file

Written by `python -m stillhouse.settings.page` from the program's own tables; do not edit.

One TOML file: `stillhouse.toml` in the working folder, or the file that `--config` or
`STILLHOUSE_CONFIG` names. Without any, `stillhouse serve` starts from the provider keys in the
environment. `stillhouse check` says what a file means and everything that is wrong with it at once;
an unknown key is an error. Secrets never stand in the file: it names the environment variables that
hold them. Paths are taken from the working folder. How to begin:
[how to run the endpoint](../how-to/run-the-endpoint.md).

```toml
[upstreams.openai]                      # a known vendor: nothing more is needed

[upstreams.gpu]                         # a server of your own
preset = "vllm"
base_url = "http://10.0.0.7:8000/v1"
allow_private = true

[models.fast]
upstream = "openai"
model = "gpt-5-mini"
aliases = ["quick"]
fallbacks = ["own"]

[models.own]
upstream = "gpu"
model = "Qwen/Qwen3-8B"

[[budgets]]
team = "cards"
usd = "100"
soft_usd = "80"
per = "month"
```
"""

NAMES = """\
## Which model a name means

A caller's model name is looked for in this order: a table's name, an alias, `UPSTREAM/MODEL`, and
the patterns of the upstreams in the order of the file. `[models."*"]` says how models without a
table of their own are treated.
"""


def configuration_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, section in SECTIONS.items():
        rows = _rows(section.fields, section.noun)
        parts.append(_section(f"`[{name}]`", section.promise, rows))
        if name == "students":
            parts.append(_of_task())
    upstream = _rows(UPSTREAM, Upstream, Timeouts)
    parts += [
        _section("`[upstreams.NAME]`", "Places that serve models.", upstream),
        _presets(),
        NAMES,
        _section("`[models.NAME]`", "Public names of models.", _rows(MODEL, Route)),
        _section(
            "`deployments`",
            "Each is `UPSTREAM/MODEL`, or a table:",
            _rows(DEPLOYMENT, Deployment),
            level="###",
        ),
        _section(
            "`[[budgets]]`",
            "Caps on use; each names at most one of key, team, customer, feature and model, or "
            "caps everybody.",
            _rows(BUDGET),
        ),
    ]
    return "\n".join(parts)


def _of_task() -> str:
    usual = (field._replace(default="`[students]`") for field in STUDENTS_TASK)
    return _section(
        '`[students.tasks."NAME"]`',
        "What one task has otherwise, by the name that `stillhouse tasks` gives it.",
        _rows(list(usual)),
        level="###",
    )


def _section(title: str, promise: str, rows: Iterator[str], level: str = "##") -> str:
    head = f"{level} {title}\n\n{promise}\n\n| key | holds | default | |\n|---|---|---|---|\n"
    return head + "".join(rows)


def _rows(listed: Sequence[Field], *nouns: type[Any]) -> Iterator[str]:
    usual = {known.name: known for noun in nouns for known in fields(noun)}
    for field in listed:
        default = field.default
        if default is None:
            default = _default(field, usual.get(field.into or field.name))
        cells = (f"`{field.name}`", field.kind.expects, default, field.promise)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _default(field: Field, known: Any) -> str:
    """A noun's own default as the file would write it; empty where there is none.

    >>> body = {known.name: known for known in fields(SECTIONS["server"].noun)}["max_body_bytes"]
    >>> _default(Field("max_body_bytes", SIZE, "Largest body."), body)
    '32 MiB'
    """
    if known is None or (known.default is MISSING and known.default_factory is MISSING):
        return ""
    value = known.default_factory() if known.default is MISSING else known.default
    if field.kind is SIZE:
        return f"{value // 2**20} MiB" if value % 2**20 == 0 else f"{value // 2**10} KiB"
    if isinstance(value, bool):
        return str(value).lower()
    if value in ((), "", None) or value == {}:
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _presets() -> str:
    rows = "".join(
        f"| `{name}` | {preset.base_url} | {', '.join(preset.wires)} | "
        f"{' or '.join(f'`{env}`' for env in preset.key_envs) or 'none'} | "
        f"{', '.join(f'`{pattern}`' for pattern in preset.models)} |\n"
        for name, preset in PRESETS.items()
    )
    return (
        "### Known vendors and servers\n\nA table `[upstreams.NAME]` with one of these names, or "
        'with `preset = "NAME"`, needs nothing else. Checked against the vendors\' documentation '
        "in November 2026.\n\n"
        "| name | address | speaks | key | serves by name |\n|---|---|---|---|---|\n" + rows
    )


if __name__ == "__main__":
    print(configuration_page(), end="")

"""What a scripted upstream is told to do: rules as data, the first that fits is followed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.errors import ConfigError

FAULTS: Mapping[str, Fate] = {
    fate.value: fate
    for fate in (
        Fate.REFUSED,
        Fate.DNS,
        Fate.TLS,
        Fate.CONNECT_TIMEOUT,
        Fate.FIRST_BYTE_TIMEOUT,
        Fate.TOTAL_TIMEOUT,
        Fate.DROPPED,
        Fate.TRUNCATED,
        Fate.GARBAGE,
        Fate.TOO_LARGE,
    )
}
"""The ways to fail that a rule may name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """For calls whose model and body fit: what to answer, how late, how to fail.

    `model` and `text` are regular expressions; the model has to fit whole, the text is looked for
    in the body. `{}` in `answer` is the last user's text. `fault` is the name of a Fate; `cut`
    ends a body half way and lets it look whole. `times` follows the rule for that many calls, and
    then looks at the rules below; 0 is for always.
    """

    model: str = ".*"
    text: str = ""
    answer: str = "{}"
    tool: str = ""
    tool_arguments: str = "{}"
    status: int = 200
    message: str = "as the script says"
    retry_after: str = ""
    fault: str = ""
    cut: bool = False
    usage: bool = True
    first_byte_seconds: float = 0.0
    chunk_seconds: float = 0.0
    times: int = 0

    def __post_init__(self) -> None:
        for name in ("model", "text"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ConfigError(
                    f"a rule of the script has the {name} {getattr(self, name)!r}, which is no "
                    f"regular expression ({error})"
                ) from error
        if self.fault and self.fault not in FAULTS:
            raise ConfigError(
                f"a rule of the script has the fault {self.fault!r}; use one of {', '.join(FAULTS)}"
            )
        if not 200 <= self.status <= 599:
            raise ConfigError(f"a rule of the script has the status {self.status}; use 200 to 599")

    def fits(self, call: UpstreamCall) -> bool:
        """Whether this rule is for a call."""
        if not re.fullmatch(self.model, call.model):
            return False
        return not self.text or bool(re.search(self.text, call.body.decode("utf-8", "replace")))


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def read_rules(rows: Sequence[Mapping[str, object]]) -> tuple[Rule, ...]:
    """Rules from the tables of a script; ConfigError names what is wrong.

    >>> read_rules([{"model": "slow-.*", "first_byte_seconds": 2}])[0].first_byte_seconds
    2
    """
    known = {field.name: _TYPES[str(field.type)] for field in fields(Rule)}
    for row in rows:
        for name, value in row.items():
            wanted = known.get(name)
            if wanted is None:
                raise ConfigError(
                    f"a rule of the script has the setting {name!r}; use {', '.join(known)}"
                )
            if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
                raise ConfigError(f"a rule of the script has {name} = {value!r}, of a wrong type")
    return tuple(Rule(**row) for row in rows)  # type: ignore[arg-type]


BUILT_IN: tuple[Rule, ...] = (
    Rule("fault-429-retry-after", status=429, retry_after="1"),
    *(
        Rule(f"fault-{status}", status=status)
        for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
    ),
    *(Rule(f"fault-{name.replace('_', '-')}", fault=name) for name in FAULTS),
    Rule("fault-cut", cut=True),
    Rule("fault-usage-missing", usage=False),
    Rule("slow", first_byte_seconds=1.0, chunk_seconds=0.1),
    Rule(answer="You said: {}"),
)
"""What a scripted upstream does without a script: `fault-503` fails so, all else is answered."""

"""The text formats that Prometheus scrapes: 0.0.4, and OpenMetrics where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Histogram(NamedTuple):
    """Counts of values up to each bound, one more for those above all, and their sum."""

    counts: Sequence[int]
    total: float


class Family(NamedTuple):
    """One metric with all of its series; the name of a counter ends in `_total`."""

    name: str
    kind: str
    help: str
    samples: Mapping[Labels, int | float | str | Histogram]
    bounds: Sequence[float] = ()


def exposition(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    r"""Write families in one of the two formats, series in order of their labels.

    >>> requests = Family("requests_total", "counter", "All.", {(("model", 'a"b'),): 3})
    >>> print(exposition([requests]).decode(), end="")
    # HELP requests_total All.
    # TYPE requests_total counter
    requests_total{model="a\"b"} 3
    """
    lines: list[str] = []
    for family in families:
        name = family.name
        if openmetrics and family.kind == "counter":
            name = name.removesuffix("_total")
        lines.append(f"# HELP {name} {_escaped(family.help, quotes=openmetrics)}")
        lines.append(f"# TYPE {name} {family.kind}")
        for labels, value in sorted(family.samples.items(), key=lambda sample: sample[0]):
            if isinstance(value, Histogram):
                lines.extend(_buckets(family, labels, value))
            else:
                lines.append(f"{family.name}{_set(labels)} {number(value)}")
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n" if lines else "").encode()


def asks_for_openmetrics(accept: str) -> bool:
    """Whether a scraper's Accept header names OpenMetrics.

    >>> asks_for_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    True
    """
    return any(
        part.partition(";")[0].strip().lower() == "application/openmetrics-text"
        for part in accept.split(",")
    )


def number(value: int | float | str) -> str:
    """A value as the formats write it; text is a number already."""
    if isinstance(value, float):
        if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        return "NaN" if math.isnan(value) else repr(value)
    return str(value)


def _buckets(family: Family, labels: Labels, values: Histogram) -> Iterable[str]:
    below = 0
    for bound, count in zip((*family.bounds, math.inf), values.counts, strict=True):
        below += count
        yield f"{family.name}_bucket{_set((*labels, ('le', number(bound))))} {below}"
    yield f"{family.name}_sum{_set(labels)} {number(values.total)}"
    yield f"{family.name}_count{_set(labels)} {below}"


def _set(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text

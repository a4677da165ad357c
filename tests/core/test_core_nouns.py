from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from pathlib import Path

import pytest

import stillhouse.core
from stillhouse.core import books, errors, learning, ports, traffic
from stillhouse.core.learning import Certificate, Target
from stillhouse.core.traffic import (
    INPUT_LEAVES,
    LEAVES,
    OUTPUT_LEAVES,
    Attempt,
    Completion,
    Evidence,
    Exchange,
    Request,
    Usage,
    weakest,
)

FILES = sorted(Path(stillhouse.core.__file__).parent.glob("*.py"))
NOUNS = [
    noun
    for module in (books, learning, ports, traffic)
    for _, noun in inspect.getmembers(module, dataclasses.is_dataclass)
    if noun.__module__ == module.__name__
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_core_knows_only_itself_and_the_standard_library(file: Path) -> None:
    known = {*sys.stdlib_module_names, "stillhouse"}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= known
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module.split(".")[0] in known
            if node.module.startswith("stillhouse"):
                assert node.module.startswith("stillhouse.core.")


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_every_noun_is_frozen(noun: type) -> None:
    assert noun.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_every_error_is_one_that_a_caller_can_catch() -> None:
    found = [noun for _, noun in inspect.getmembers(errors, inspect.isclass)]
    assert {error.__name__ for error in found} == {
        "StillhouseError",
        "CallerError",
        "ConfigError",
        "StoreError",
        "UpstreamError",
        "ProviderError",
    }
    assert all(issubclass(error, errors.StillhouseError) for error in found)


def test_totals_of_tokens_are_sums_of_fields_that_do_not_overlap() -> None:
    counts = {name: 10**place for place, name in enumerate(LEAVES)}
    usage = Usage(**counts)
    assert usage.total_input_tokens == 1_111_111
    assert usage.total_output_tokens == 11_110_000_000
    assert not set(INPUT_LEAVES) & set(OUTPUT_LEAVES)
    assert set(LEAVES) - set(INPUT_LEAVES) - set(OUTPUT_LEAVES) == {"web_searches"}
    assert usage.leaves() == counts
    assert Usage().leaves() == {}


def test_fewer_than_no_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="output_tokens is -1"):
        Usage(output_tokens=-1)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([Evidence.REPORTED], Evidence.REPORTED),
        ([Evidence.REPORTED, Evidence.DERIVED], Evidence.DERIVED),
        ([Evidence.ESTIMATED, Evidence.DERIVED], Evidence.ESTIMATED),
        ([Evidence.SCENARIO, Evidence.REPORTED, Evidence.ESTIMATED], Evidence.SCENARIO),
    ],
)
def test_a_figure_is_as_good_as_its_weakest_part(parts: list[Evidence], whole: Evidence) -> None:
    assert weakest(*parts) is whole
    assert weakest(*reversed(parts)) is whole


def test_an_exchange_happened_when_its_first_attempt_was_made() -> None:
    first, retry = Attempt("a1", "m", at_us=5), Attempt("a2", "m", at_us=9)
    assert Exchange("e", Request(()), Completion(), (first, retry)).at_us == 5
    assert Exchange("e", Request(()), Completion(), ()).at_us is None


@pytest.mark.parametrize("max_risk", [0.0, 1.0, 5.0, -0.1, float("nan")])
def test_a_wanted_risk_is_a_share(max_risk: float) -> None:
    with pytest.raises(ValueError, match="max_risk is"):
        Target(max_risk=max_risk)


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, 95.0])
def test_a_wanted_confidence_is_a_half_or_more(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence is"):
        Target(confidence=confidence)


@pytest.mark.parametrize(("rows", "accepted", "rate"), [(200, 150, 0.75), (0, 0, 0.0)])
def test_the_accept_rate_is_the_share_of_the_calibration_rows(
    rows: int, accepted: int, rate: float
) -> None:
    certificate = Certificate("s", 0.8, 0.05, 0.95, 0.03, 1, rows, accepted, 2, "m", "d")
    assert certificate.accept_rate == rate

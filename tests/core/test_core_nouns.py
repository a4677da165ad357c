from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
import sys
from collections import namedtuple
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stillhouse.core
from stillhouse.core import books, calls, errors, learning, money, ports, quotas, traffic
from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Ended, Entry, Fate, Started
from stillhouse.core.learning import Certificate, Target
from stillhouse.core.money import Avoided, Money, Paid
from stillhouse.core.nouns import MappedNoun, Noun
from stillhouse.core.traffic import (
    INPUT_LEAVES,
    LEAVES,
    OUTPUT_LEAVES,
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Request,
    Tags,
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
STRUCTS = [
    noun
    for module in (books, calls, money, quotas, traffic)
    for _, noun in inspect.getmembers(module, inspect.isclass)
    if noun.__module__ == module.__name__ and issubclass(noun, msgspec.Struct)
]

texts, counts, shares = st.text(max_size=4), st.integers(0, 2**53), st.floats(0, 1e9)
usages = st.builds(Usage, *[counts] * len(LEAVES))
paid = st.builds(Paid, st.integers(-(2**62), 2**62), texts)
attempts = st.builds(
    Attempt,
    *(texts, texts, st.none() | counts, texts, st.sampled_from(AttemptKind), st.none() | usages),
    *(st.none() | shares, st.none() | paid, st.booleans(), texts, st.booleans(), texts),
    st.sampled_from(Evidence),
)
charges = st.builds(
    Charge,
    *(texts, texts, st.sampled_from(LEAVES), counts, texts, st.none() | paid),
    *(st.sampled_from(CostSource), st.sampled_from(Evidence), texts, texts),
)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Started,
        *(texts, attempts, texts, texts, st.builds(Tags, *[texts] * 5), texts, texts, texts),
        *(counts, counts, st.lists(texts, max_size=2).map(tuple), texts),
    ),
    st.builds(
        Ended,
        *(texts, attempts, st.lists(charges, max_size=2).map(tuple), st.sampled_from(Fate)),
        *(counts, st.none() | shares, texts, texts, st.booleans(), texts, st.booleans()),
        *(counts, texts, texts),
    ),
)


def plainly(value: object) -> object:
    """The same made of tuples with names and of dataclasses."""
    if isinstance(value, tuple):
        return tuple(map(plainly, value))
    if not isinstance(value, Noun):
        return value
    names = value.__struct_fields__
    parts = [plainly(getattr(value, name)) for name in names]
    if isinstance(value, MappedNoun):
        return dataclasses.make_dataclass(type(value).__name__, names, slots=True)(*parts)
    Plain = namedtuple("Plain", names)  # type: ignore[misc]  # of any noun
    return Plain(*parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_core_knows_only_itself_the_standard_library_and_structs(file: Path) -> None:
    known = {*sys.stdlib_module_names, "msgspec", "stillhouse"}
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


@pytest.mark.parametrize("noun", STRUCTS, ids=lambda noun: noun.__name__)
def test_every_struct_is_a_frozen_noun_that_the_collector_passes_by(noun: type[Noun]) -> None:
    assert issubclass(noun, Noun)
    config = noun.__struct_config__
    assert (config.frozen, config.gc, config.weakref, config.dict) == (True, False, False, False)
    assert config.array_like is config.forbid_unknown_fields is not issubclass(noun, MappedNoun)


@given(entries)
def test_an_entry_is_encoded_as_tuples_and_dataclasses_are(entry: Entry) -> None:
    payload = msgspec.msgpack.encode(entry)
    assert payload == msgspec.msgpack.encode(plainly(entry))
    assert msgspec.msgpack.decode(payload, type=type(entry)) == entry
    assert msgspec.json.encode(entry) == msgspec.json.encode(plainly(entry))


@given(entries)
def test_a_noun_can_be_copied_and_be_a_key(entry: Entry) -> None:
    again = pickle.loads(pickle.dumps(entry))
    assert again == copy.deepcopy(entry) == entry._replace() == entry
    assert {entry: 1}[again] == 1


def test_paid_and_avoided_are_different_keys_and_look_alike_in_a_file() -> None:
    found = {Paid(1): "paid", Avoided(1): "avoided", Money(1): "money"}
    assert (found[Paid(1)], found[Avoided(1)], found[Money(1)]) == ("paid", "avoided", "money")
    for kind in (Paid, Avoided):
        assert msgspec.json.encode(kind(7, "EUR")) == b'{"pico":7,"currency":"EUR"}'
        assert msgspec.json.decode(b'{"pico":7}', type=kind) == kind(7)


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


@pytest.mark.parametrize("leaf", LEAVES)
def test_fewer_than_no_tokens_are_refused(leaf: str) -> None:
    with pytest.raises(ValueError, match=f"^{leaf} is -1; a count"):
        Usage(**{leaf: -1})
    with pytest.raises(ValueError, match=f"^{leaf} is -1; a count"):
        Usage()._replace(**{leaf: -1})
    with pytest.raises(msgspec.ValidationError, match=f"^{leaf} is -1; a count"):
        msgspec.json.decode(msgspec.json.encode({leaf: -1}), type=Usage)


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

"""Usage bodies into disjoint leaves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Usage
from stillhouse.ledger.usage import DIALECTS, decompose

COUNT = st.integers(0, 10**7)


def openai_body(usage: Usage, *, extra_reasoning: bool = False) -> dict[str, object]:
    """The chat completions body that a provider would send for these leaves."""
    out = usage.total_output_tokens - (usage.reasoning_tokens if extra_reasoning else 0)
    return {
        "prompt_tokens": usage.total_input_tokens,
        "completion_tokens": out,
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens + usage.cache_audio_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens,
            "audio_tokens": usage.input_audio_tokens + usage.cache_audio_read_tokens,
            "image_tokens": usage.input_image_tokens,
            "cached_tokens_details": {"audio_tokens": usage.cache_audio_read_tokens},
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "image_tokens": usage.output_image_tokens,
        },
    }


def responses_body(usage: Usage) -> dict[str, object]:
    body = openai_body(usage)
    return {
        "input_tokens": body["prompt_tokens"],
        "output_tokens": body["completion_tokens"],
        "total_tokens": body["total_tokens"],
        "input_tokens_details": body["prompt_tokens_details"],
        "output_tokens_details": body["completion_tokens_details"],
    }


def columns_body(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.total_input_tokens,
        "cached_tokens": usage.cache_read_tokens,
        "output_tokens": usage.total_output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def anthropic_body(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": {"web_search_requests": usage.web_searches},
    }


def leaves_of(*names: str) -> st.SearchStrategy[Usage]:
    return st.builds(Usage, **dict.fromkeys(names, COUNT))


TEXT = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
INCLUSIVE = (
    *TEXT,
    "cache_write_5m_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "input_image_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)
WRITES = (*TEXT, "cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches")


@given(leaves_of(*INCLUSIVE))
def test_a_chat_body_gives_back_the_leaves_that_its_totals_were_made_of(usage: Usage) -> None:
    assert decompose(openai_body(usage), "openai") == usage


@given(leaves_of(*INCLUSIVE))
def test_reasoning_on_top_of_the_completion_is_seen_by_the_total(usage: Usage) -> None:
    assert decompose(openai_body(usage, extra_reasoning=True), "openai") == usage


@given(leaves_of(*INCLUSIVE))
def test_a_responses_body_gives_back_its_leaves(usage: Usage) -> None:
    assert decompose(responses_body(usage), "responses") == usage


@given(leaves_of(*WRITES))
def test_an_anthropic_body_gives_back_its_leaves(usage: Usage) -> None:
    assert decompose(anthropic_body(usage), "anthropic") == usage


@given(leaves_of(*TEXT))
def test_flat_columns_give_back_their_leaves(usage: Usage) -> None:
    assert decompose(columns_body(usage), "columns") == usage


@given(st.dictionaries(st.sampled_from(sorted(columns_body(Usage()))), COUNT))
def test_leaves_always_sum_to_the_totals_or_the_body_is_refused(body: dict[str, object]) -> None:
    try:
        usage = decompose(body, "columns")
    except CallerError:
        return
    assert usage.total_input_tokens == body["input_tokens"]
    assert usage.total_output_tokens == body.get("output_tokens", 0)


BODIES: list[tuple[str, str, Mapping[str, object], dict[str, int]]] = [
    ("an embedding has no output", "openai", {"prompt_tokens": 8, "total_tokens": 8},
     {"input_tokens": 8}),
    ("null counts are no counts", "openai",
     {"prompt_tokens": 8, "completion_tokens": None, "prompt_tokens_details": None},
     {"input_tokens": 8}),
    ("DeepSeek splits hits and misses", "openai",
     {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
      "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36,
      "prompt_tokens_details": {"cached_tokens": 64}},
     {"input_tokens": 36, "cache_read_tokens": 64, "output_tokens": 5}),
    ("a gateway repeats Anthropic's counts beside inclusive totals", "openai",
     {"prompt_tokens": 12307, "completion_tokens": 550, "cache_creation_input_tokens": 12304,
      "cache_read_input_tokens": 0,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 12304}},
     {"input_tokens": 3, "cache_write_5m_tokens": 12304, "output_tokens": 550}),
    ("accepted and rejected predictions are output", "openai",
     {"prompt_tokens": 10, "completion_tokens": 9,
      "completion_tokens_details": {"accepted_prediction_tokens": 4,
                                    "rejected_prediction_tokens": 3}},
     {"input_tokens": 10, "output_tokens": 9}),
    ("a cache write without a lifetime is the default one", "anthropic",
     {"input_tokens": 3, "cache_creation_input_tokens": 7, "output_tokens": 1},
     {"input_tokens": 3, "cache_write_5m_tokens": 7, "output_tokens": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "body", "leaves"), [b[1:] for b in BODIES],
                         ids=[b[0] for b in BODIES])  # fmt: skip
def test_a_provider_s_body_is_read_by_its_own_rules(
    dialect: str, body: Mapping[str, object], leaves: dict[str, int]
) -> None:
    assert decompose(body, dialect).leaves() == leaves


REFUSED: list[tuple[str, str, Mapping[str, object], str]] = [
    ("negative", "openai", {"prompt_tokens": -1}, "prompt_tokens is -1"),
    ("fraction", "columns", {"input_tokens": 1.5}, "input_tokens is 1.5"),
    ("text", "columns", {"input_tokens": "12"}, "input_tokens is '12'"),
    ("truth value", "openai", {"prompt_tokens": True}, "prompt_tokens is True"),
    ("nothing", "responses", {}, "no input_tokens"),
    ("another dialect", "openai", {"input_tokens": 5}, "no prompt_tokens"),
    ("more cached than sent", "openai",
     {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}, "prompt_tokens is 5"),
    ("more reasoning than said", "responses",
     {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 3}},
     "output_tokens is 2"),
    ("more thinking than said", "anthropic",
     {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 3}},
     "output_tokens is 2"),
    ("a total that does not sum", "openai",
     {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 120}, "total_tokens is 120"),
    ("lifetimes that do not sum", "anthropic",
     {"input_tokens": 1, "cache_creation_input_tokens": 9,
      "cache_creation": {"ephemeral_5m_input_tokens": 4}}, "cache_creation_input_tokens is 9"),
    ("misses that do not sum", "openai",
     {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 4},
     "4 cache hits . 4 misses"),
    ("misses that do not sum, and no hits", "openai",
     {"prompt_tokens": 9, "prompt_cache_miss_tokens": 4}, "0 cache hits . 4 misses"),
    ("two counts for one thing", "openai",
     {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4,
      "prompt_tokens_details": {"cached_tokens": 3}}, "prompt_cache_hit_tokens is 4"),
    ("an overlap that nobody tells", "openai",
     {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 4}},
     "overlap"),
    ("details that are no object", "openai",
     {"prompt_tokens": 9, "prompt_tokens_details": 4}, "prompt_tokens_details is 4"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "body", "named"), [r[1:] for r in REFUSED],
                         ids=[r[0] for r in REFUSED])  # fmt: skip
def test_a_body_that_does_not_add_up_is_refused_by_name(
    dialect: str, body: Mapping[str, object], named: str
) -> None:
    with pytest.raises(CallerError, match=named):
        decompose(body, dialect)


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CallerError, match=", ".join(DIALECTS)):
        decompose({"prompt_tokens": 1}, "cohere")


ODD = st.one_of(
    st.integers(-1, 30), st.sampled_from([None, True, False, 0.0, 10.0, "", "7", 10**40])
)
KINDS = ("cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens")
PARTS: st.SearchStrategy[object] = st.dictionaries(st.sampled_from(KINDS), ODD) | st.sampled_from(
    [None, 4, []]
)
ANY_BODY = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 40) | ODD},
    optional={
        "completion_tokens": st.integers(0, 40) | ODD,
        "total_tokens": ODD,
        "prompt_tokens_details": PARTS,
        "completion_tokens_details": PARTS,
        "cache_read_input_tokens": ODD,
        "reasoning_tokens": ODD,
    },
)


def by_the_long_way(body: dict[str, object]) -> dict[str, object]:
    """The same, so written that nothing of it is taken as it stands on a first look."""
    longer: dict[str, object] = {"prompt_cache_miss_tokens": None}
    for name, value in body.items():
        if isinstance(value, dict):
            longer[name] = MappingProxyType({"audio_tokens": None, "image_tokens": None, **value})
        else:
            longer[name] = value
    return longer


def read(body: Mapping[str, object]) -> Usage | str:
    try:
        return decompose(body, "openai")
    except CallerError as misfit:
        return str(misfit).split(":")[0].split(" (")[0]  # behind that stands the body itself


@given(ANY_BODY)
def test_the_short_way_through_a_body_reads_what_the_long_way_does(body: dict[str, object]) -> None:
    assert read(body) == read(by_the_long_way(body))


@given(leaves_of("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"))
def test_media_that_are_said_to_be_none_change_nothing(usage: Usage) -> None:
    body = openai_body(usage)
    for details in ("prompt_tokens_details", "completion_tokens_details"):
        parts = body[details]
        assert isinstance(parts, dict)
        body[details] = {name: n for name, n in parts.items() if name[:5] not in ("audio", "image")}
    assert decompose(body, "openai") == usage


@pytest.mark.parametrize("odd", [False, 0.0, "", [], {}])
@pytest.mark.parametrize("details", ["prompt_tokens_details", "completion_tokens_details"])
@pytest.mark.parametrize("kind", ["audio_tokens", "image_tokens"])
def test_what_looks_like_no_media_but_is_no_count_is_refused(
    odd: object, details: str, kind: str
) -> None:
    body = {"prompt_tokens": 9, "completion_tokens": 2, details: {kind: odd}}
    with pytest.raises(CallerError, match=f"usage {kind} is"):
        decompose(body, "openai")


@pytest.mark.parametrize("total", [11.0, "11", True])
def test_a_total_that_fits_but_is_no_count_is_refused(total: object) -> None:
    parts = (1, 0) if total is True else (9, 2)
    body = {"prompt_tokens": parts[0], "completion_tokens": parts[1], "total_tokens": total}
    with pytest.raises(CallerError, match=f"usage total_tokens is {total!r}; a count must be"):
        decompose(body, "openai")

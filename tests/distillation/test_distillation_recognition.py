"""Requests are recognised from what was written down as discovery itself assigned them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import StoreError
from stillhouse.core.traffic import Completion, Exchange, Message, Request, Tags
from stillhouse.distillation.discovery import TaskModels, assign, discover, induce_models
from stillhouse.distillation.recognition import Found, Recogniser, written
from stillhouse.distillation.templates import fixed


def neighbour(name: str) -> ModuleType:
    """The tests of discovery, whose traffic is recognised here."""
    spec = util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shop = neighbour("test_distillation_discovery")
exchange: Callable[..., Exchange] = shop.exchange
MAIL: list[list[str]] = shop.MAIL
SORT: str = shop.SORT
EDITED = SORT + "\nNever answer in another language."


def owned() -> list[Exchange]:
    """A system prompt with a slot of its own, which is another in every request."""
    return [
        exchange(f"own{i}", m, intent, system=f"{SORT}\nThe customer owns: {product} no. {i}")
        for i, (m, intent, _, product, _) in enumerate(MAIL)
    ]


def demonstrated() -> list[Exchange]:
    """Few-shot turns that vary."""
    found = []
    for i, (m, intent, *_) in enumerate(MAIL):
        picked = [MAIL[(i + k) % len(MAIL)] for k in (3, 11)]
        turns = [turn for row in picked for turn in (("user", row[0]), ("assistant", row[1]))]
        found.append(exchange(f"shot{i}", m, intent, system=SORT, turns=turns))
    return found


def cities() -> list[Exchange]:
    return [
        exchange(f"s{i}-{k}", mail[0], mail[1], system=f"{SORT} The shop stands in {city}.", at=k)
        for i, city in enumerate(shop.CITIES)
        for k, mail in enumerate(MAIL[i : i + 8])
    ]


def closed() -> list[Exchange]:
    closing = "\n\nWhich desk should answer the mail above? One word."
    return [exchange(f"c{i}", m + closing, desk) for i, (m, desk, *_) in enumerate(MAIL)]


def tagged() -> list[Exchange]:
    halves = [
        replace(one, tags=Tags(task=("north desk", "south desk", "")[i % 3]))
        for i, one in enumerate(shop.sorting())
    ]
    odd = [replace(one, tags=Tags(task=" north desk ")) for one in shop.one_offs()]
    unknown = [replace(one, tags=Tags(task="attic")) for one in shop.sorting()[:2]]
    return halves + odd + unknown


def drifted() -> list[Exchange]:
    rare = exchange("late", "Where is my pan?", "delivery", system=SORT + "\nBe quick.")
    return [*shop.sorting(), *shop.sorting(EDITED, "new"), rare]


def silent() -> list[Exchange]:
    one = Exchange("mute", Request((Message("system", SORT),)), Completion("x"), ())
    return [*shop.sorting(), one, replace(one, request=Request(()))]


KINDS = [
    shop.mixed, owned, demonstrated, cities, closed, tagged, drifted, silent, shop.extraction
]  # fmt: skip


def read_back(models: TaskModels) -> Recogniser:
    return Recogniser.read(written(models))


def found_in(recogniser: Recogniser, one: Exchange) -> tuple[str, str] | None:
    hit = recogniser.find(one.request, one.tags.task)
    return None if hit is None else (hit.task, hit.text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_read_back_assigns_every_exchange_as_discovery_did(
    kind: Callable[[], list[Exchange]],
) -> None:
    models = discover(kind()).models
    recogniser = read_back(models)
    every = [one for other in KINDS for one in other()]
    for one in [*every, *every[::7]]:
        assert found_in(recogniser, one) == assign(models, one)
    assert any(found_in(recogniser, one) for one in kind())


WORDS = st.sampled_from([*SORT.split(), "LK-4411", "7", "2026-03-01", "\n", "\0", "\ud800", "İ"])
TEXTS = st.lists(WORDS, max_size=30).map(" ".join)
ODD = st.builds(
    lambda turns, tag: Exchange(
        "odd", Request(tuple(Message(*turn) for turn in turns)), Completion(), (), Tags(task=tag)
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["system", "developer", "user", "user", "assistant"]),
            st.one_of(TEXTS, st.sampled_from([SORT, EDITED, shop.ROUTE])),
        ),
        max_size=4,
    ),
    st.sampled_from(["", "", "north desk", "attic"]),
)
WHOLE = induce_models([one for kind in KINDS for one in kind()])
READ_WHOLE = read_back(WHOLE)


@settings(max_examples=300, deadline=None)
@given(ODD)
def test_odd_requests_are_assigned_alike_too(one: Exchange) -> None:
    assert found_in(READ_WHOLE, one) == assign(WHOLE, one)


def test_the_same_models_give_the_same_bytes_however_they_were_found() -> None:
    traffic = shop.mixed() + tagged()
    body = written(discover(traffic).models)
    assert written(discover(traffic[::-1]).models) == body
    assert json.loads(body)["format"] == 1


def prompts(recogniser: Recogniser, traffic: Sequence[Exchange]) -> set[str]:
    hits = [recogniser.find(one.request, one.tags.task) for one in traffic]
    return {hit.prompt for hit in hits if hit is not None}


def test_requests_of_one_prompt_version_share_a_digest_and_an_edited_prompt_has_another() -> None:
    recogniser = read_back(discover(drifted()).models)
    old, new = (prompts(recogniser, shop.sorting(system)) for system in (SORT, EDITED))
    rare = prompts(recogniser, drifted()[-1:])
    assert [len(digests) for digests in (old, new, rare)] == [1, 1, 1]
    assert len(old | new | rare) == 3


def test_numbers_that_vary_in_a_prompt_make_no_other_version() -> None:
    dated = [system for day in (3, 17) for system in [f"{SORT} It is the {day}. of May."]]
    recogniser = read_back(discover(shop.sorting(dated[0])).models)
    (digest,) = prompts(recogniser, shop.sorting(dated[0]) + shop.sorting(dated[1]))
    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_what_stands_in_the_slot_of_a_system_prompt_makes_no_other_version() -> None:
    assert len(prompts(read_back(discover(owned()).models), owned())) == 1


def test_another_template_of_the_user_message_is_another_version() -> None:
    later = [
        exchange(f"later{i}", f"Mail to sort by desk: {m}\nThe desk:", intent, system=SORT)
        for i, (m, intent, *_) in enumerate(MAIL)
    ]
    recogniser = read_back(discover(later).models)
    bare, wrapped = prompts(recogniser, shop.sorting()), prompts(recogniser, later)
    assert (len(bare), len(wrapped), len(bare | wrapped)) == (1, 1, 2)


def test_a_request_is_recognised_by_what_another_process_wrote() -> None:
    body = written(discover(shop.sorting()).models)
    script = (
        "import sys\n"
        "from stillhouse.core.traffic import Message, Request\n"
        "from stillhouse.distillation.recognition import Recogniser\n"
        "asked = Request((Message('system', sys.argv[1]), Message('user', ' Where is it? ')))\n"
        "print(tuple(Recogniser.read(sys.stdin.buffer.read()).find(asked)))\n"
        "print([name for name in ('numpy', 'scipy', 'onnxruntime') if name in sys.modules])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, SORT], input=body, capture_output=True, check=True
    )
    here = Recogniser.read(body).find(
        Request((Message("system", SORT), Message("user", " Where is it? ")))
    )
    assert isinstance(here, Found)
    assert told.stdout.decode().splitlines() == [str(tuple(here)), "[]"]


def test_a_long_row_of_numbers_is_refused_as_soon_as_any_text() -> None:
    """Each number that fits in several ways would double the ways to refuse the whole text."""
    prompt = "Case LK-4411-17: sort it by desk and say one word."
    recogniser = read_back(discover(shop.sorting(prompt)).models)
    asked = "Case LK-" + "-".join(["1111"] * 400) + " at the desk"
    closing = replace(WHOLE, openings=(replace(WHOLE.openings[0], frame=(fixed(prompt),)),))
    for known in (recogniser, read_back(closing)):
        known.find(Request((Message("system", asked), Message("user", "Where is it?"))))
        assert known.find(Request((Message("user", asked),))) is None


def test_a_long_context_is_no_version_of_a_short_prompt() -> None:
    models = discover(shop.sorting()).models
    for padding in ("kettle " * 40_000, "a " * 100_000, "kettle " * 20):
        one = exchange("long", "Where is it?", system=SORT + " " + padding)
        assert found_in(read_back(models), one) == assign(models, one)


def test_another_format_is_refused_with_a_remedy() -> None:
    with pytest.raises(StoreError, match=r"format 9.*stillhouse tasks"):
        Recogniser.read(b'{"format": 9}')

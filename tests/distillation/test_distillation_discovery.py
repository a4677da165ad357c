from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.core.learning import AnswerShape
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
)
from stillhouse.distillation.discovery import Discovery, assign, discover
from stillhouse.distillation.discovery_profiles import TaskProfile

# message | intent | tool | product | note of the shop's clerk
_LINES = """
Where's my kettle? It was meant to be here Tuesday | delivery | track | kettle
    Asks after a kettle due on Tuesday.
hi the toaster only browns one side, can somebody look at it | repair | book | toaster
    Reports that a toaster browns on one side.
I'd like to send the blender back, it is far too loud for the flat | return | label | blender
    Wants to return a noisy blender.
You've taken 89 euros twice for one fan!! | billing | refund | fan
    Was charged twice for a fan.
My mother's dishwasher is leaking under the door since the fitter left | repair | book | dishwasher
    A dishwasher leaks after fitting.
Could the van come after six? I work shifts | delivery | track | none
    Asks for an evening slot.
parcel arrived but no charger in the box | delivery | track | charger
    A charger is missing from the parcel.
Please cancel my order, I found the same iron cheaper elsewhere | return | label | iron
    Cancels an order for an iron.
The invoice lacks our VAT number and accounting won't book it | billing | refund | none
    Needs the VAT number on an invoice.
Oven trips the fuse each time I set it above 180 | repair | book | oven
    An oven trips the fuse.
Your driver left the fridge in the rain, thanks a lot | delivery | track | fridge
    A fridge was left outside in the rain.
I was promised ten percent off and paid full price for the hob | billing | refund | hob
    The discount on a hob is missing.
Vacuum smells burnt after five minutes | repair | book | vacuum
    A vacuum smells burnt.
wrong colour, I ordered the red mixer | return | label | mixer
    Received a mixer in the wrong colour.
When will the sewing machine ship? Site says 3 days since May | delivery | track | sewing machine
    Asks when a sewing machine ships.
My card statement shows a payment to you that I never made | billing | refund | none
    Disputes a card payment.
The coffee machine drips even when it's switched off | repair | book | coffee machine
    A coffee machine drips when off.
How do I print the return form? My printer hates me | return | label | none
    Needs help printing a return form.
Neighbour signed for the dryer, neighbour denies everything | delivery | track | dryer
    A dryer may be with a neighbour.
Gift voucher says invalid, bought it yesterday | billing | refund | voucher
    A new voucher is refused.
Washing machine walks through the kitchen during the spin cycle | repair | book | washing machine
    A washing machine moves while spinning.
It's the second wrong lid you have sent me. Take them both | return | label | lid
    Returns two wrong lids.
tracking number 4471 shows nothing at all | delivery | track | none
    Tracking shows nothing.
Why does my receipt list a care plan? I never asked for one | billing | refund | care plan
    Disputes a care plan on the receipt.
The microwave hums, lights up, heats nothing | repair | book | microwave
    A microwave does not heat.
Changed my mind about the purifier, box still sealed | return | label | purifier
    Returns an unopened purifier.
We moved to Lindau on Friday, can you redirect the freezer | delivery | track | freezer
    Asks to redirect a freezer.
I paid by transfer on the 3rd and still get reminders | billing | refund | none
    Gets reminders despite paying.
Door of the wine cooler doesn't close any more, kids | repair | book | wine cooler
    The door of a wine cooler stays open.
The jug is plastic, the photo showed glass. Not keeping it | return | label | jug
    Returns a jug unlike its photo.
Delivery window was 8 to 12, it is now 15:30 | delivery | track | none
    The delivery window has passed.
Refund for the grill is short by 12.50 | billing | refund | grill
    A refund for a grill is short.
Ice maker makes noise but no ice | repair | book | ice maker
    An ice maker makes no ice.
Two sizes too big for our kitchen, please collect the table hood | return | label | hood
    Returns a hood that is too large.
Nobody rang the bell, yet the app says delivery failed | delivery | track | none
    A delivery failed without a ring.
Can you split the amount over three months? | billing | refund | none
    Asks for payment by instalments.
The heater's display is dead but it still warms | repair | book | heater
    A heater's display is dead.
I opened it, tried it, hated it. What now? | return | label | none
    Dislikes an opened product.
Left at the depot in Graz for nine days now | delivery | track | none
    A parcel waits at the depot.
Charged in dollars although I live in Wales | billing | refund | none
    Was charged in another currency.
""".strip().splitlines()
MAIL = [
    [*line.split(" | "), note.strip()] for line, note in zip(_LINES[::2], _LINES[1::2], strict=True)
]

SORT = (
    "You sort mail for Larkspur, a shop for kitchen appliances. Answer with one word: delivery, "
    "repair, return or billing. If several fit, take the one the customer is most upset about."
)
ROUTE = "Pick the tool that helps this customer best. Call exactly one tool and say nothing else."
NOTE = "Condense the message into a note of one sentence for the clerk who takes over the case."


def exchange(
    name: str,
    user: str,
    answer: str = "",
    *,
    system: str = "",
    turns: Sequence[tuple[str, str]] = (),
    tool: str = "",
    tag: str = "",
    at: int | None = None,
) -> Exchange:
    messages = [("system", system)] if system else []
    request = Request(tuple(Message(r, t) for r, t in [*messages, *turns, ("user", user)]))
    completion = Completion(text=answer, tool=tool)
    return Exchange(name, request, completion, (Attempt(name, "big", at_us=at),), Tags(task=tag))


def sorting(system: str = SORT, name: str = "sort") -> list[Exchange]:
    return [
        exchange(f"{name}{i}", m, intent, system=system) for i, (m, intent, *_) in enumerate(MAIL)
    ]


def extraction() -> list[Exchange]:
    """The slot stands in the middle of the user message, behind an id and a date that vary."""
    return [
        exchange(
            f"extract{i}",
            f"Case LK-{4100 + 7 * i} of 2026-03-{1 + i % 28:02d}\n"
            f"Read the customer's message:\n<<{m}>>\n"
            "Give product and urgency as a JSON object.",
            json.dumps({"product": product, "urgency": i % 4}),
        )
        for i, (m, _, _, product, _) in enumerate(MAIL)
    ]


def routing() -> list[Exchange]:
    return [
        exchange(f"route{i}", m, tool=tool, system=ROUTE) for i, (m, _, tool, *_) in enumerate(MAIL)
    ]


def condensing() -> list[Exchange]:
    return [
        exchange(f"note{i}", f"Message: {row[0]}", row[4], system=NOTE)
        for i, row in enumerate(MAIL)
    ]


def chats() -> list[Exchange]:
    """Conversations that open with a question and go on: each row is a turn later."""
    helper = "You are a helpful assistant for the shop's office."
    found = []
    for i, (said, _, _, _, reply) in enumerate(MAIL):
        history = [("user", said), ("assistant", reply + " What shall I write?")]
        follow = MAIL[(i + 5) % len(MAIL)][0]
        found.append(exchange(f"chat{i}a", said, reply, system=helper))
        found.append(exchange(f"chat{i}b", f"No: {follow}", reply, system=helper, turns=history))
    return found


def one_offs() -> list[Exchange]:
    return [exchange(f"odd{i}", row[4], row[0] + "\n" + row[4]) for i, row in enumerate(MAIL)]


def mixed() -> list[Exchange]:
    kinds = (sorting(), extraction(), routing(), condensing())
    woven = [one for together in zip(*kinds, strict=True) for one in together]
    return woven + chats() + one_offs()


def by_shape(found: Discovery) -> dict[AnswerShape, TaskProfile]:
    assert len({profile.task.shape for profile in found.tasks}) == len(found.tasks)
    return {profile.task.shape: profile for profile in found.tasks}


def slots(found: Discovery, traffic: Sequence[Exchange]) -> set[str]:
    return {hit[1] for one in traffic if (hit := assign(found.models, one))}


MESSAGES = {row[0] for row in MAIL}


def test_four_interleaved_tasks_are_found_and_nothing_else() -> None:
    found = discover(mixed())
    assert {p.task.shape: p.volume for p in found.tasks} == dict.fromkeys(AnswerShape, len(MAIL))
    shapes = by_shape(found)
    assert shapes[AnswerShape.LABELS].task.labels == ("billing", "delivery", "repair", "return")
    assert shapes[AnswerShape.FIELDS].task.fields == ("product", "urgency")
    assert shapes[AnswerShape.TOOL].task.labels == ("book", "label", "refund", "track")
    assert found.exchanges == len(mixed())


def test_conversations_and_one_offs_belong_to_no_task() -> None:
    found = discover(mixed())
    assert not any(assign(found.models, one) for one in chats() + one_offs())
    assert discover(chats() + one_offs()).tasks == ()


@pytest.mark.parametrize("task", [sorting, extraction, routing, condensing])
def test_the_slot_text_is_the_variable_part_of_the_last_user_message(task) -> None:  # type: ignore[no-untyped-def]
    assert slots(discover(mixed()), task()) == MESSAGES


def test_a_template_names_its_slot_and_masks_the_numbers_that_vary() -> None:
    fields = by_shape(discover(mixed()))[AnswerShape.FIELDS]
    assert fields.task.template == (
        "[user]\nCase LK-# of #\nRead the customer's message:\n<<{text}>>\n"
        "Give product and urgency as a JSON object."
    )


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(len(mixed()))), st.integers(0, 3))
def test_the_order_of_the_traffic_makes_no_difference(order: list[int], seed: int) -> None:
    traffic = mixed()
    found = discover([traffic[i] for i in order], seed=seed)
    assert found.tasks == discover(traffic, seed=seed).tasks


@settings(max_examples=12, deadline=None)
@given(st.sets(st.integers(0, len(mixed()) - 1), min_size=60), st.integers(1, 40))
def test_volumes_count_the_assigned_exchanges_and_reach_the_minimum(
    chosen: set[int], minimum: int
) -> None:
    every = mixed()
    traffic = [every[i] for i in sorted(chosen)]
    found = discover(traffic, minimum=minimum)
    hits = Counter(hit[0] for one in traffic if (hit := assign(found.models, one)))
    assert hits == {profile.task.name: profile.volume for profile in found.tasks}
    assert all(profile.volume >= minimum for profile in found.tasks)


def test_groups_under_the_minimum_are_no_task() -> None:
    assert len(discover(sorting()[:19], minimum=20).tasks) == 0
    assert len(discover(sorting()[:20], minimum=20).tasks) == 1


DRIFTS = {
    "a version number": (SORT + " (prompt v1.4)", SORT + " (prompt v1.5.2)"),
    "an added line": (SORT, SORT + "\nNever answer in another language."),
    "a removed sentence": (SORT, SORT[: SORT.index(" If several")]),
    "an edited opening": (SORT, SORT.replace("You sort mail", "Your job is to file mail")),
}


@pytest.mark.parametrize(("before", "after"), DRIFTS.values(), ids=DRIFTS)
def test_a_prompt_that_drifted_stays_one_task_under_one_name(before: str, after: str) -> None:
    old = [
        replace(one, attempts=(Attempt(one.exchange_id, "big", at_us=i),))
        for i, one in enumerate(sorting(before))
    ]
    new = [
        replace(one, attempts=(Attempt(one.exchange_id, "big", at_us=1000 + i),))
        for i, one in enumerate(sorting(after, "new"))
    ]
    (profile,) = discover(new + old).tasks
    assert profile.volume == 2 * len(MAIL)
    assert profile.task.name == discover(old).tasks[0].task.name
    assert (profile.first_us, profile.last_us) == (0, 1000 + len(MAIL) - 1)


def test_a_version_too_rare_to_be_learnt_is_still_recognised() -> None:
    rare = exchange("late", "Where is my pan?", "delivery", system=SORT + "\nBe quick.")
    found = discover([*sorting(), rare])
    assert assign(found.models, rare) == (found.tasks[0].task.name, "Where is my pan?")


def test_prompts_that_ask_for_something_else_stay_apart() -> None:
    french = "Translate the customer's message into French. Keep names and numbers unchanged."
    traffic = [
        exchange(f"{language}{i}", row[0], f"({language}) {row[4]}", system=prompt, at=i)
        for i, row in enumerate(MAIL)
        for language, prompt in (("fr", french), ("de", french.replace("French", "German")))
    ]
    found = discover(traffic)
    assert [profile.volume for profile in found.tasks] == [len(MAIL)] * 2
    assert len({profile.task.name for profile in found.tasks}) == 2


_NAMES = (
    "Aarau Basel Chur Davos Egerkingen Frauenfeld Glarus Herisau Ilanz Jona Kloten Lenzburg "
    "Martigny Nyon Olten Pully Rapperswil Sion Thun Uster Vevey Wil Yverdon Zug Arbon Brugg Cham "
    "Dietikon Emmen Flawil Gossau Horgen"
)
CITIES = _NAMES.split()


def test_many_versions_that_differ_in_a_name_are_one_prompt_with_a_slot() -> None:
    traffic = [
        exchange(f"s{i}-{k}", mail[0], mail[1], system=f"{SORT} The shop stands in {city}.", at=k)
        for i, city in enumerate(CITIES)
        for k, mail in enumerate(MAIL[i : i + 8] + MAIL[: max(0, i - 32)])
    ]
    (profile,) = discover(traffic).tasks
    assert profile.volume == len(traffic)
    pair = [one for one in traffic if one.exchange_id.startswith(("s0-", "s1-"))]
    assert len(discover(pair, minimum=8).tasks) == 2


def test_two_instructions_under_one_empty_context_are_two_tasks() -> None:
    ask = "Read the message and decide: {}\n\n{}"
    traffic = [
        one
        for i, (m, intent, *_) in enumerate(MAIL)
        for one in (
            exchange(f"a{i}", ask.format("is it about money? yes or no", m), ("no", "yes")[i % 2]),
            exchange(f"b{i}", ask.format("which desk takes it?", m), intent),
        )
    ]
    found = discover(traffic)
    assert {p.task.labels for p in found.tasks} == {
        ("no", "yes"),
        ("billing", "delivery", "repair", "return"),
    }
    assert slots(found, traffic) == MESSAGES


SHOTS = [
    ("user", "The lamp flickers"),
    ("assistant", "repair"),
    ("user", "Two charges, one lamp"),
    ("assistant", "billing"),
]


def test_constant_earlier_turns_are_few_shot_examples() -> None:
    traffic = [
        exchange(f"s{i}", m, intent, system="Sort.", turns=SHOTS)
        for i, (m, intent, *_) in enumerate(MAIL)
    ]
    (profile,) = discover(traffic + chats()).tasks
    assert profile.volume == len(MAIL)
    assert "[assistant]\nbilling" in profile.task.template


def test_earlier_turns_that_vary_are_few_shot_examples_if_they_answer_in_the_same_form() -> None:
    traffic = []
    for i, (m, intent, *_) in enumerate(MAIL):
        picked = [MAIL[(i + k) % len(MAIL)] for k in (3, 11)]
        turns = [t for row in picked for t in (("user", row[0]), ("assistant", row[1]))]
        traffic.append(exchange(f"s{i}", m, intent, system=SORT, turns=turns))
    (profile,) = discover(traffic).tasks
    assert (profile.volume, profile.task.shape) == (len(MAIL), AnswerShape.LABELS)
    assert slots(discover(traffic), traffic) == MESSAGES


def test_a_few_shot_block_in_the_user_message_is_constant() -> None:
    block = "".join(f"Mail: {m}\nDesk: {intent}\n\n" for m, intent, *_ in MAIL[:4])
    traffic = [
        exchange(f"s{i}", f"{block}Mail: {m}\nDesk:", intent)
        for i, (m, intent, *_) in enumerate(MAIL[4:])
    ]
    found = discover(traffic + one_offs())
    assert [profile.volume for profile in found.tasks] == [len(MAIL) - 4]
    assert slots(found, traffic) == {row[0] for row in MAIL[4:]}
    assert found.tasks[0].constant_share > 0.8


def test_an_instruction_behind_the_slot_is_found() -> None:
    closing = "\n\nWhich desk should answer the mail above? One word."
    traffic = [exchange(f"s{i}", m + closing, desk) for i, (m, desk, *_) in enumerate(MAIL)]
    found = discover(traffic + one_offs() + chats())
    assert [profile.task.shape for profile in found.tasks] == [AnswerShape.LABELS]
    assert slots(found, traffic) == MESSAGES


def test_a_system_prompt_with_a_slot_of_its_own_is_one_template() -> None:
    traffic = [
        exchange(f"s{i}", m, intent, system=f"{SORT}\nThe customer owns: {product} no. {i}")
        for i, (m, intent, _, product, _) in enumerate(MAIL)
    ]
    (profile,) = discover(traffic).tasks
    assert profile.volume == len(MAIL)
    assert "The customer owns: {text}" in profile.task.template


def test_tags_override_what_the_prompts_say() -> None:
    halves = [
        replace(one, tags=Tags(task="north desk" if i % 2 else "south desk"))
        for i, one in enumerate(sorting())
    ]
    odd = [replace(one, tags=Tags(task="north desk")) for one in one_offs()[:2]]
    found = discover([*halves, *odd, *routing()])
    volumes = {p.task.name: p.volume for p in found.tasks if p.task.tagged}
    assert volumes == {"north desk": 22, "south desk": 20}
    assert {p.task.shape for p in found.tasks if p.task.tagged} == {AnswerShape.LABELS}
    assert len(found.tasks) == 3


def test_untagged_traffic_with_a_tagged_prompt_joins_the_tag() -> None:
    traffic = [
        replace(one, tags=Tags(task="desk" if i < 30 else "")) for i, one in enumerate(sorting())
    ]
    assert [(p.task.name, p.volume) for p in discover(traffic).tasks] == [("desk", len(MAIL))]


def test_a_tag_without_a_prompt_does_not_draw_in_the_untagged() -> None:
    tagged = [replace(one, tags=Tags(task="misc")) for one in one_offs()]
    plain = [exchange(f"plain{i}", row[0], row[4] + "\n" + row[2]) for i, row in enumerate(MAIL)]
    found = discover(tagged + plain)
    assert [(p.task.name, p.volume) for p in found.tasks] == [("misc", len(MAIL))]


def test_stray_answers_do_not_hide_the_label_set() -> None:
    traffic = sorting() + sorting(name="again")
    for i in (3, 17, 40):
        stray = Completion(text=f"I cannot tell, customer number {i} writes about two things.")
        traffic[i] = replace(traffic[i], completion=stray)
    (profile,) = discover(traffic).tasks
    assert profile.task.labels == ("billing", "delivery", "repair", "return")
    assert (profile.strays, sum(profile.answers.values())) == (3, len(traffic) - 3)


def test_a_profile_tells_repeats_and_how_often_the_teacher_agrees_with_itself() -> None:
    again = [
        replace(one, exchange_id=f"again{i}", completion=Completion(text="other" * (i < 5)))
        if i < 5
        else replace(one, exchange_id=f"again{i}")
        for i, one in enumerate(sorting()[:20])
    ]
    (profile,) = discover(sorting() + again).tasks
    assert profile.repeat_share == pytest.approx(20 / 60)
    assert profile.repeated_pairs == 20
    assert profile.self_agreement == pytest.approx(0.75)
    assert len(set(profile.examples) & MESSAGES) == 3


def test_another_model_that_disagrees_is_no_disagreement_of_a_teacher_with_itself() -> None:
    other = [
        replace(one, exchange_id=f"o{i}", attempts=(Attempt(f"o{i}", "small"),))
        for i, one in enumerate(sorting())
    ]
    (profile,) = discover(sorting() + other).tasks
    assert profile.teachers == {"big": len(MAIL), "small": len(MAIL)}
    assert profile.repeat_share == pytest.approx(0.5)
    assert profile.self_agreement is None


def test_the_constant_share_is_weighted_by_tokens_where_they_are_known() -> None:
    traffic = [
        replace(
            one, attempts=(Attempt(one.exchange_id, "big", usage=Usage(input_tokens=1 + i % 2)),)
        )
        for i, one in enumerate(sorting())
    ]
    shares = [len(SORT) / (len(SORT) + len(row[0])) for row in MAIL]
    weights = [1 + i % 2 for i in range(len(MAIL))]
    expected = sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)
    assert discover(traffic).tasks[0].constant_share == pytest.approx(expected)
    characters = len(MAIL) * len(SORT)
    whole = characters + sum(len(row[0]) for row in MAIL)
    assert discover(sorting()).tasks[0].constant_share == pytest.approx(characters / whole)


def test_names_are_readable_slugs_and_unique() -> None:
    names = [profile.task.name for profile in discover(mixed()).tasks]
    assert set(names) == {
        "sort-mail-larkspur-shop",
        "case-lk-read-customer",
        "pick-tool-helps-customer",
        "condense-message-note-sentence",
    }


def test_traffic_that_can_be_read_only_once_is_refused() -> None:
    with pytest.raises(CallerError, match="got a generator"):
        discover(one for one in sorting())


def test_exchanges_without_a_user_message_are_passed_over() -> None:
    silent = replace(sorting()[0], request=Request((Message("system", SORT),)))
    found = discover([*sorting(), silent])
    assert assign(found.models, silent) is None
    assert found.tasks[0].volume == len(MAIL)


def by_a_student(one: Exchange) -> Exchange:
    attempt = Attempt(one.exchange_id, "open book", kind=AttemptKind.STUDENT)
    return replace(one, attempts=(attempt,), completion=Completion("billing"))


def audit_of(one: Exchange) -> Exchange:
    name = f"audit of {one.exchange_id}"
    return replace(
        one, exchange_id=name, attempts=(Attempt(name, "big", kind=AttemptKind.SHADOW, at_us=9),)
    )


def test_an_audit_counts_as_an_answer_and_not_as_another_request() -> None:
    asked = sorting()
    found = discover([*map(by_a_student, asked[:20]), *asked[20:], *map(audit_of, asked[:20])])
    (profile,), (plain,) = found.tasks, discover(asked).tasks
    assert (found.exchanges, profile.volume, profile.teachers) == (40, 40, {"big": 40})
    assert (profile.answers, profile.strays) == (plain.answers, plain.strays)
    assert (profile.first_us, profile.last_us) == (None, None)
    assert profile.constant_share == plain.constant_share
    assert all(assign(found.models, audit_of(one)) for one in asked)


def test_what_a_student_answered_says_nothing_of_the_teacher() -> None:
    asked = sorting()
    (profile,) = discover([*asked, *(by_a_student(replace(o, exchange_id=f"s{o.exchange_id}"))
                                     for o in asked)]).tasks  # fmt: skip
    assert (profile.volume, profile.teachers, profile.repeat_share) == (80, {"big": 40}, 0.0)

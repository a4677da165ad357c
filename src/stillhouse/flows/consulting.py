"""The story of one consultation: recognise the task, admit, toss the coin, drive the cascade.

The cascade is the generator that `stillhouse replay` drives over recorded traffic; here its
questions are put to the students at work, and to the teacher by whoever called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stillhouse.core.books import Charge
from stillhouse.core.calls import Ended
from stillhouse.core.catalogue import Recorded, Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Answerer, Decision, Policy, Prediction
from stillhouse.core.ports import Students
from stillhouse.core.serving import Answered, Consultation, Serving
from stillhouse.core.traffic import Attempt, AttemptKind, Request
from stillhouse.distillation.recognition import Found, Recogniser
from stillhouse.flows.house import Asked
from stillhouse.routing.admission import OTHER_MODEL, OTHER_PROMPT, Candidate, admit
from stillhouse.routing.cascade import Ask, Steps, cascade, shadow_coin

UNAVAILABLE = "the student gave no answer in time"
UNKNOWN = "the student gave no answer of the task's"
BELOW = "below threshold"
BRIDGING = "bridging the teacher's outage"
MOST_BYTES = 2**18
"""Of a body that is read for its task: nobody else is answered meanwhile."""

_READABLE = frozenset((Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES, Wire.DECISIONS, Wire.SYSTEMONE))
_COUNTED_COSTS = 64
_DECISIONS = frozenset((Wire.DECISIONS, Wire.SYSTEMONE))


@dataclass(frozen=True, slots=True)
class Staff:
    """The students at work as one worker knows them; a change of policy makes a new one.

    `recognisers` know which task a request belongs to, each for some of the tasks. `read` turns a
    body into a conversation. `coin_key` tosses the audit's coin and `canary_key` chooses canaries.
    `voided` holds the versions whose certificate this worker has seen become void: they answer
    nobody, whatever the books say until they have heard of it. `counted` remembers the tokens of
    long messages by their hash: prompts come again and again. `costs` is what the teacher charges
    for an answer of each task, lately and on average, in pico-dollars.
    """

    servings: dict[str, Serving]
    recognisers: Sequence[tuple[Recogniser, Collection[str]]]
    students: Students
    read: Callable[[bytes, Wire], Request]
    coin_key: bytes
    canary_key: bytes
    voided: set[tuple[str, int]] = field(default_factory=set)
    counted: dict[bytes, int] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)

    def void(self, serving: Serving) -> None:
        """Let a version answer nobody any more."""
        self.voided.add((serving.charter.task, serving.charter.version))


class Matter(NamedTuple):
    """A request of a task with a student, and how it is to be answered by the policy.

    `policy` is None where the teacher answers, and `reason` says why. `counted` is the staff's.
    `cost_pico` is what the teacher charges for an answer; 0 where that is not known.
    """

    serving: Serving
    request: Request
    found: Found
    policy: Policy | None
    reason: str
    voids: str
    coin: bool
    counted: dict[bytes, int]
    cost_pico: int


class Ruling(NamedTuple):
    """What the cascade came to: the student's answer, or the teacher is to be asked.

    `decision` is None until the teacher has answered. `said` is what the student answered, None
    where it was not asked or not heard.
    """

    matter: Matter
    consultation: Consultation
    said: Answered | None
    decision: Decision | None
    seconds: float
    steps: Steps | None = None


def recognised(staff: Staff, asked: Asked) -> Matter | None:
    """The request's task and what its policy says of it; None where no student has to do with it.

    Students have no part in what is not recorded: nobody could audit them there. Nor in what is
    far longer than anything that they could have learnt from.
    """
    if asked.route.recorded is not Recorded.FULL or asked.ask.wire not in _READABLE:
        return None
    if len(asked.body) > MOST_BYTES:
        return None
    try:
        request = staff.read(asked.body, asked.ask.wire)
    except CallerError:
        return None
    for recogniser, tasks in staff.recognisers:
        found = recogniser.find(request, asked.tags.task)
        if found is not None and found.task in tasks:
            return _matter(staff, asked, request, found)
    return None


def _matter(staff: Staff, asked: Asked, request: Request, found: Found) -> Matter:
    serving = staff.servings[found.task]
    version = (found.task, serving.charter.version)
    candidate = Candidate(
        exchange_id=asked.exchange_id,
        model=asked.route.name,
        key_id=asked.key_id,
        forbidden=not asked.students,
        prompt=found.prompt,
        text=found.text,
        images=bool(asked.ask.images),
        tools=bool(request.tools),
    )
    if version in staff.voided:
        policy, reason, voids = None, "its certificate is void", ""
    else:
        policy, reason, voids = admit(serving, candidate, staff.canary_key)
        if serving.terms.other_teacher == "defer":
            voids = ""
        if voids:
            staff.void(serving)
    coin = shadow_coin(asked.exchange_id, staff.coin_key, serving.terms.shadow_share)
    cost = staff.costs.get(found.task, serving.charter.cost_pico)
    return Matter(serving, request, found, policy, reason, voids, coin, staff.counted, cost)


async def consult(staff: Staff, matter: Matter, wire: Wire, seconds: Callable[[], float]) -> Ruling:
    """Drive the cascade until it has an answer or wants the teacher's.

    A student that gives no answer in time leaves the request to the teacher.
    """
    began = seconds()
    steps = cascade(matter.policy, matter.coin)
    ask = next(steps)
    said: Answered | None = None
    reason = matter.reason
    if ask is Ask.STUDENT and matter.policy is not None:
        deadline = matter.serving.terms.deadline_seconds
        said = await staff.students.ask(
            matter.policy.student, matter.found.text, deadline, odds=wire in _DECISIONS
        )
        unknown = said is not None and said.prediction.label not in matter.serving.charter.answers
        if said is None or unknown:
            steps.close()
            steps, reason = cascade(None, matter.coin), UNKNOWN if unknown else UNAVAILABLE
            next(steps)
            said = None  # what it cannot have learnt is heard by nobody
        else:
            reason = BELOW
            try:
                ask = steps.send(said.prediction)
                if ask is Ask.SHADOW:  # asked later, in the background: the coin is journalled
                    ask = steps.send(said.prediction)
            except StopIteration as done:
                decision: Decision = done.value
                note = _noted(matter, said, decision.answerer, decision.reason)
                return Ruling(matter, note, said, decision, seconds() - began)
    note = _noted(matter, said, Answerer.TEACHER, reason)
    return Ruling(matter, note, said, None, seconds() - began, steps)


def conclude(ruling: Ruling, ended: Sequence[Ended]) -> Decision | None:
    """The cascade's decision once the teacher was asked; None where it did not answer."""
    if ruling.steps is None:
        return None
    if _taught(ended) is None:
        ruling.steps.close()
        return None
    try:
        ruling.steps.send(Prediction("", 1.0))  # what it said is in the books; here it is not read
    except StopIteration as done:
        decision: Decision = done.value
        return decision
    raise AssertionError("the cascade asks the teacher last")


def deferred(ruling: Ruling, why: str) -> Ruling:
    """The teacher is asked after all: the student's answer cannot be given."""
    note = ruling.consultation._replace(answerer=Answerer.TEACHER.value, reason=why)
    return ruling._replace(consultation=note, decision=None)


def bridged(ruling: Ruling) -> Ruling:
    """The student's answer in the teacher's place, uncertified: only while the teacher fails.

    No audit follows: who is answered so was chosen by the outage, and not by the score.
    """
    if ruling.steps is not None:
        ruling.steps.close()
    note = ruling.consultation._replace(
        answerer=Answerer.STUDENT.value, reason=BRIDGING, coin=False
    )
    return ruling._replace(consultation=note, steps=None)


def _noted(matter: Matter, said: Answered | None, answerer: Answerer, reason: str) -> Consultation:
    charter, policy = matter.serving.charter, matter.policy
    return Consultation(
        task=charter.task,
        version=charter.version,
        label=said.prediction.label if said is not None else "",
        score=said.prediction.score if said is not None else -1.0,
        threshold=policy.threshold if policy is not None else -1.0,
        answerer=answerer.value,
        coin=matter.coin,
        reason=reason,
        voids=matter.voids,
    )


def watch_teacher(staff: Staff, matter: Matter, ended: Sequence[Ended]) -> None:
    """Void a certificate at once where another model answered than it speaks of.

    Else remember what it charged: that is what a student's answer avoids.
    """
    taught = _taught(ended)
    if matter.reason in (OTHER_MODEL, OTHER_PROMPT):  # another was asked, so another answered
        return
    if taught is None:
        return
    if knows_teacher(matter.serving.charter.teachers, taught.model):
        _learn_cost(staff, matter, ended[-1].charges)
    else:
        staff.void(matter.serving)


def _learn_cost(staff: Staff, matter: Matter, charges: Sequence[Charge]) -> None:
    bills = [charge.billed for charge in charges]
    if not bills or None in bills:
        return
    cost = sum(bill.pico for bill in bills if bill is not None)
    task = matter.serving.charter.task
    before = staff.costs.get(task, matter.serving.charter.cost_pico)
    staff.costs[task] = round(before + (cost - before) / _COUNTED_COSTS) if before else cost


def _taught(ended: Sequence[Ended]) -> Attempt | None:
    """The call by which the teacher answered; None where it did not, or a fallback for it."""
    if not ended or not ended[-1].attempt.ok:
        return None
    last = ended[-1].attempt
    return None if last.kind in (AttemptKind.STUDENT, AttemptKind.FALLBACK) else last


def knows_teacher(teachers: Collection[str], model: str) -> bool:
    """Whether a certificate speaks of the model that answered.

    >>> knows_teacher(("gpt-4-0314",), "gpt-4-0613"), knows_teacher((), "any")
    (False, True)
    """
    return not teachers or model in teachers

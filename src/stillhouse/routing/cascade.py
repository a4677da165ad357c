"""The cascade: the student answers what it is certified for, the teacher the rest.

Neither sync nor async: a generator that yields questions and is sent the answers, so that the very
code that serves is the code that replays recorded traffic.

>>> steps = cascade(Policy("t", "s", threshold=0.8, version=1), shadowed=False)
>>> next(steps)
<Ask.STUDENT: 'student'>
>>> try:
...     steps.send(Prediction("refund", 0.93))
... except StopIteration as done:
...     print(done.value.answerer, done.value.label)
student refund
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from enum import Enum

from stillhouse.core.learning import Answerer, Decision, Policy, Prediction


class Ask(Enum):
    """A question that the driver puts to a model."""

    STUDENT = "student"
    TEACHER = "teacher"
    SHADOW = "shadow"


Steps = Generator[Ask, Prediction, Decision]


def cascade(policy: Policy | None, shadowed: bool) -> Steps:
    """Decide who answers one request; the driver is asked and sends predictions.

    A shadowed request that the student answers is put to the teacher as well; the caller does not
    wait for that, and its answer only feeds the watch on drift.
    """
    if policy is None:
        taught = yield Ask.TEACHER
        return Decision(Answerer.TEACHER, taught.label, None, "no student serves this task")
    guess = yield Ask.STUDENT
    if not guess.score >= policy.threshold:  # as the gate counted: NaN was never accepted
        taught = yield Ask.TEACHER
        return Decision(Answerer.TEACHER, taught.label, guess.score, "deferred: below threshold")
    if shadowed:
        yield Ask.SHADOW
    return Decision(Answerer.STUDENT, guess.label, guess.score, "certified")


def shadow_coin(request_id: str, key: bytes, share: float) -> bool:
    """Toss one coin per request, the same whatever the route: heads with probability `share`.

    A keyed hash, so that nobody who picks request ids can dodge the audit.

    >>> sum(shadow_coin(str(n), b"key", 0.25) for n in range(4000))
    1020
    """
    toss = hashlib.blake2b(request_id.encode("utf-8"), key=key, digest_size=8).digest()
    return int.from_bytes(toss, "big") < share * 2**64

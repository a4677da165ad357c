"""The story of a rehearsal: the watch on a student at work, over recorded traffic.

The judge, the verbs and the rules are those of the live watch. The clock counts rows, for a log may
have no times; so the same rows always come to the same events, however fast they are replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from stillhouse.core.learning import Answerer, Certificate, Decision, Policy, Prediction
from stillhouse.core.serving import Charter, Evidence, Mode, PolicyEvent, Serving, Terms
from stillhouse.flows.evidence import serving_since
from stillhouse.flows.judging import Finding, Judge, other_teacher
from stillhouse.flows.replay import Recorded
from stillhouse.routing import lifecycle
from stillhouse.routing.contract import in_range

INPUTS = "inputs"
"""The event of inputs that have changed, where people are told and nothing else is done."""


class Counts(NamedTuple):
    """How many requests there were, how many of them the student answered, how many were audited.

    Audited are those answers of the student that the teacher was asked for too.
    """

    requests: int = 0
    served: int = 0
    audited: int = 0
    disagreed: int = 0

    def since(self, before: Counts) -> Counts:
        """What was added."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class Happening(NamedTuple):
    """What the watch did at a row, counted from 1; `since` counts from the first injected row on.

    `event` is a Change or `inputs`. `threshold` is where the student answers from now on; None
    where it does not. `since` is None before anything was injected.
    """

    row: int
    at_us: int | None
    event: str
    why: str
    threshold: float | None
    since: Counts | None


class Rehearsal:
    """Watches a certified version over rows; `happenings` is what it did.

    The version is promoted before the first row, to all of the traffic. `injected` is the number of
    the first row that was changed, 0 where none was.
    """

    def __init__(
        self, charter: Charter, certificate: Certificate, terms: Terms, injected: int = 0
    ) -> None:
        self.charter = replace(charter, since_us=0)  # its clock is another
        self.terms, self.injected = terms, injected
        self.happenings: list[Happening] = []
        self.counts = Counts()
        self._before = Counts()
        self._told = False
        self._evidence: list[Evidence] = []
        promoted = lifecycle.promote(
            (),
            charter.version,
            certificate,
            task=charter.task,
            why="what if it were at work",
            who="replay",
            at_us=0,
        )
        self._events = [promoted]
        self._stand()

    @property
    def level(self) -> float:
        """How far the watch on answers is on its way to an alarm: 1 is one."""
        return self._judge.level

    @property
    def threshold(self) -> float | None:
        """Where the student answers from; None where the teacher answers everything."""
        return self._policy.threshold if self._policy is not None else None

    @property
    def since(self) -> Counts | None:
        """What was counted from the first injected row on; None before it."""
        if not 0 < self.injected <= self.counts.requests:
            return None
        return self.counts.since(self._before)

    def policy_for(self, row: Recorded) -> Policy | None:
        """The policy of the moment; None where the row is the teacher's."""
        if self._policy is None or in_range(self.charter.inputs, row.text, False, False):
            return None
        return self._policy

    def hear(self, row: Recorded, prediction: Prediction, decision: Decision, coin: bool) -> None:
        """Look at a row as the live watch would, and change who answers if that is called for."""
        if self.counts.requests + 1 == self.injected:
            self._before = self.counts
        served = decision.answerer is Answerer.STUDENT
        audited = served and coin and bool(row.label)
        wrong = audited and prediction.label != row.label
        requests, n_served, n_audited, disagreed = self.counts
        self.counts = Counts(
            requests + 1, n_served + served, n_audited + audited, disagreed + wrong
        )
        if self._standing.mode is not Mode.SERVING:
            return
        taught = not served or coin
        if taught and (why := other_teacher(self.charter, row.teacher)):
            self._change(row, lifecycle.void, why)
            return
        if decision.score is not None:
            if coin and row.label:
                self._take(row, prediction, served)
            self._judge.look_at_inputs([(row.row_id, row.text, prediction.score)])
        if finding := self._judge.finding():
            self._answer(row, finding)

    def _take(self, row: Recorded, prediction: Prediction, served: bool) -> None:
        number = self.counts.requests
        label, score = prediction.label, prediction.score
        one = Evidence(row.row_id, number, score, label, row.label, served, number)
        self._evidence.append(one)
        self._judge.take([one])

    def _answer(self, row: Recorded, finding: Finding) -> None:
        verb = finding.verb(self.charter)
        if verb is not None:
            self._change(row, verb, finding.why)
        elif not self._told:
            self._told = True
            self._note(row, INPUTS, finding.why)

    def _change(self, row: Recorded, verb: Callable[..., PolicyEvent], why: str) -> None:
        # Of this row the judge has heard; the new standing begins with the next.
        at_us = self.counts.requests + 1
        version, who = self.charter.version, lifecycle.MONITOR
        event = verb(self._events, version, why=why, who=who, at_us=at_us)
        self._events.append(event)
        self._stand()
        self._note(row, event.event, event.why)

    def _stand(self) -> None:
        """Take the standing that the events come to; what was before is not held against it."""
        charter = self.charter
        standing = lifecycle.standings(self._events)[charter.version]
        self._standing, self._told = standing, False
        since_us = serving_since(self._events, charter.version)
        self._judge = Judge(charter, standing, self.terms, since_us)
        self._judge.take(self._evidence)
        self._policy = Serving(charter, standing, self.terms).policy

    def _note(self, row: Recorded, event: str, why: str) -> None:
        number = self.counts.requests
        happening = Happening(number, row.at_us, event, why, self.threshold, self.since)
        self.happenings.append(happening)

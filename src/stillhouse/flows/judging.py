"""What a version's evidence says: whether the gate is open, whether its promise is broken.

The gate may be asked at every look, the detectors after every row: both are valid whenever one
stops to look. The same rows in the same order always say the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from stillhouse.core.learning import Certificate
from stillhouse.core.serving import Charter, Evidence, Mode, PolicyEvent, Standing, Terms
from stillhouse.flows.consulting import knows_teacher
from stillhouse.routing import lifecycle
from stillhouse.routing.admission import LONGEST_NAME

LONGEST_RUN = 1e9
LOOKED_SHARE = 100
"""A look costs the more the more rows there are; one new row of so many is worth the next."""

METHOD = "e-process fixed sequence (0.9 delta) and 12 levels side by side (0.1 delta), any look"


class Finding(NamedTuple):
    """What the detectors have found, and what is done of it: `raise`, `stop` or `notice`."""

    why: str
    deed: str

    def verb(self, charter: Charter) -> Callable[..., PolicyEvent] | None:
        """The change that answers it; None where people are told and nothing is changed."""
        if self.deed == "notice":
            return None
        if self.deed == "raise":
            return partial(lifecycle.raise_level, levels=charter.levels)
        return lifecycle.rollback


def other_teacher(charter: Charter, model: str) -> str:
    """Why a model that answered is not the certificate's teacher; empty where it is, or unknown."""
    if not model or knows_teacher(charter.teachers, model):
        return ""
    spoken = ", ".join(charter.teachers)
    return f"{model[:LONGEST_NAME]} answered, and the certificate speaks of {spoken}"


class Judge:
    """One version's evidence so far, under one standing; `read` is the number of its last row.

    `since_us` is when its answers began to be watched, where that is not its last event.
    """

    def __init__(
        self, charter: Charter, standing: Standing, terms: Terms, since_us: int | None = None
    ) -> None:
        from stillhouse.risk import drift

        self.standing = standing
        self.read = 0
        self.audited = self.agreed = 0
        self._charter, self._terms = charter, terms
        self._since_us = standing.since_us if since_us is None else since_us
        # There may be many rows, and they are kept as long as the version serves.
        self._scores, self._before = array("d"), array("d")
        self._wrong = bytearray()
        self._looked = 0
        self._detector = drift.watch(charter.target.max_risk, terms.run_length)
        self._served = self._disagreed = 0
        self.inputs: Inputs | None = None

    def take(self, rows: Sequence[Evidence]) -> None:
        """Add rows in the order of their stream.

        The detector hears of what this standing has let callers have, and of nothing before it.
        """
        from stillhouse.risk import drift

        for row in rows:
            self.read = row.number
            self._scores.append(row.score)
            self._wrong.append(row.disagrees)
            self.audited += row.served
            self.agreed += row.served and not row.disagrees
            if self._charter.since_us <= row.at_us < self._since_us:
                self._before.append(row.score)
            if not self._counts(row):
                continue
            self._served += 1
            self._disagreed += row.disagrees
            if not self._detector.alarm:  # an alarm stands until somebody answers it
                self._detector = drift.after(self._detector, row.disagrees)

    def _counts(self, row: Evidence) -> bool:
        """Whether a caller was given the answer by the threshold of this standing."""
        bar = self.standing.threshold
        return row.served and bar is not None and row.score >= bar and row.at_us >= self._since_us

    @property
    def due(self) -> bool:
        """Whether there is enough new to look again: the more there was, the more it takes."""
        return len(self._scores) - self._looked > self._looked // LOOKED_SHARE

    def look(self) -> None:
        """Note that all rows so far were looked at."""
        self._looked = len(self._scores)

    def look_at_inputs(self, consulted: Sequence[tuple[str, str, float]]) -> None:
        """Hear of requests that the student was asked about: their ids, texts and scores.

        They are compared with the audited rows of live traffic before it answered. Rows held out
        from its training are no fair sample: what resembles a row of training is not among them.
        """
        if self.inputs is None:
            self.inputs = Inputs(self._charter, self._terms, self._before)
        for exchange_id, text, score in consulted:
            self.inputs.take(exchange_id, text, score)

    def gain(self, bar: float, wider: float) -> float:
        """The share of the evidence that a wider threshold would let through beyond this one."""
        between = sum(wider <= score < bar for score in self._scores)
        return between / max(1, len(self._scores))

    def alarm(self) -> str:
        """Why the promise is broken, in a sentence; empty while it holds."""
        if self.standing.mode is not Mode.SERVING or not self._detector.alarm:
            return ""
        return (
            "audited answers disagree with the teacher more often than the promised "
            f"{self._charter.target.max_risk:.4g} of late ({self._disagreed} of {self._served} "
            "since it answers)"
        )

    def inputs_alarm(self) -> str:
        """What has changed about the inputs, in a sentence; empty while nothing has."""
        return self.inputs.alarm() if self.inputs is not None else ""

    def finding(self) -> Finding | None:
        """What must be answered now; None while nothing was found, or nobody is served.

        Changed inputs are no proof of harm, so the terms say whether people are only told.
        """
        if self.standing.mode is not Mode.SERVING:
            return None
        if why := self.alarm():
            return Finding(why, self._terms.on_alarm)
        if why := self.inputs_alarm():
            return Finding(why, self._terms.on_inputs)
        return None

    @property
    def level(self) -> float:
        """How far the detector is on its way to an alarm: 1 and more is one."""
        return self._detector.level / self._terms.run_length

    def certificate(self) -> Certificate | None:
        """What the evidence proves now; None while the gate is closed, which is a look."""
        import numpy as np

        from stillhouse.risk.certificate import open_gate

        charter = self._charter
        gate = open_gate(
            np.array(self._scores, dtype=np.float64),
            np.array(self._wrong, dtype=bool),
            np.array(charter.levels, dtype=np.float64),
            charter.target.max_risk,
            charter.delta,
            charter.planned_rows,
        )
        if gate.threshold is None:
            self.look()
            return None
        return Certificate(
            student=charter.student,
            threshold=gate.threshold,
            max_risk=charter.target.max_risk,
            confidence=charter.target.confidence,
            delta_spent=charter.delta,
            version=charter.version,
            n_calibration=gate.n_rows,
            n_accepted=gate.n_accepted,
            n_disagreements=gate.n_disagreements,
            method=METHOD,
            dataset="",
        )


class Inputs:
    """Whether a version is still asked what it was made for; it needs no teacher to say so.

    Two things are watched, each at twice the run length of the answers' own watch in requests: how
    sure the student is, and how many words are new to it.
    """

    def __init__(self, charter: Charter, terms: Terms, scores: Sequence[float]) -> None:
        from stillhouse.risk import inputs

        self._known = frozenset(charter.words)
        length = min(2 * terms.run_length / max(terms.shadow_share, 1e-3), LONGEST_RUN)
        self._scores = inputs.watch_inputs(inputs.refer(inputs.SCORE_EDGES, scores), length)
        # Words of training rows are known by definition, so live rows are the only fair sample.
        self._words = inputs.watch_inputs(inputs.refer(inputs.SHARE_EDGES), length)

    def take(self, exchange_id: str, text: str, score: float) -> None:
        """Look at one request."""
        from stillhouse.risk import inputs

        digest = blake2b(exchange_id.encode(), digest_size=8, person=b"ties").digest()
        tie = int.from_bytes(digest[:4], "big") / 2**32
        other = int.from_bytes(digest[4:], "big") / 2**32
        if not self._scores.alarm:
            self._scores = inputs.after_input(self._scores, score, tie)
        if not self._words.alarm:
            share = inputs.new_words(text, self._known)
            self._words = inputs.after_input(self._words, share, other)

    def alarm(self) -> str:
        """What has changed, in a sentence; empty while nothing has."""
        if self._scores.alarm:
            return f"the student's scores have changed, and look {self._scores.direction}"
        if self._words.alarm:
            return f"the share of unknown words has changed, and looks {self._words.direction}"
        return ""

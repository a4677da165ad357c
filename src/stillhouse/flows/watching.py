"""The story of the watch: booked traffic becomes evidence, and evidence changes who answers.

Every exchange is looked at once, in the order of its booking. What a version said of it and what
the teacher said is a row of evidence where it may be one; then the gate and the drift detectors
are asked. What is in the books is judged before more is read, and a change is decided on what was
read: so a watch that was killed goes on where it was, and comes to the same events.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stillhouse.core.learning import Certificate
from stillhouse.core.ports import Students
from stillhouse.core.serving import Change, Evidence, Mode, Notice, PolicyEvent, Terms
from stillhouse.distillation.recognition import Recogniser
from stillhouse.flows.evidence import (
    MOST_CHARACTERS,
    History,
    Posted,
    Said,
    Seen,
    Version,
    asked_live,
    audits,
    evidence_of,
    judgeable,
    said_already,
    see,
    served_spans,
    serving_since,
    voiding,
)
from stillhouse.flows.judging import Judge
from stillhouse.flows.watch_ports import WatchBooks
from stillhouse.routing import lifecycle

PLACE = "evidence"
"""The name of the watch's place in the books."""

A_BATCH = 500
PATIENCE = 20
"""Steps that wait for a student process that is away, before its versions' rows are passed over."""

FEWEST_COMPARED = 100
"""Rows that two versions must both have seen before one takes the other's place by itself."""

SETTLED_US = 60 * 10**6
"""Requests are looked at in their order once those so much younger are in the books."""

WORTH_WIDENING = 0.05
"""Share of the requests by which a wider threshold must let a student answer more."""

_GATHERING = (Mode.SHADOW, Mode.CERTIFIED, Mode.SERVING, Mode.PAUSED)
_PASSING = (Change.PAUSED, Change.RESUMED)


class StudentsAwayError(Exception):
    """The student process does not answer: the same rows are looked at again later."""


@dataclass(slots=True)
class Watch:
    """Looks at booked traffic, batch by batch; `step` until it says that nothing is left.

    `judges` are those of the versions that gather evidence. Only what they know of the inputs is
    begun anew after a restart; all else is read from the books.
    """

    books: WatchBooks
    students: Students
    terms_of: Callable[[str], Terms]
    now_us: Callable[[], int]
    batch: int = A_BATCH
    judges: dict[Version, Judge] = field(default_factory=dict)
    _number: int = -1
    _histories: dict[str, History] = field(default_factory=dict)
    _recognisers: dict[str, Recogniser] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _unsettled: dict[Version, list[tuple[int, str, str, float]]] = field(default_factory=dict)
    _away: dict[str, int] = field(default_factory=dict)

    async def step(self) -> bool:
        """Judge what is in the books, or look at one more batch; False where nothing was left.

        Raises StoreError where the books are away and StudentsAwayError where the students are;
        then nothing was kept, and the next step does the same again.
        """
        self._read_policies()
        if self._judge_all():
            return True
        tasks = self._of_digest(self.books.recogniser())
        if not tasks and not self._histories:  # of traffic without tasks there is nothing to know
            self._pass_by()
            return False
        rows = self.books.watched(self.books.watch_place(PLACE), self.batch)
        if not rows:
            return False
        seen = [see(row, self._recognisers) for row in rows]
        while self._void(seen):
            self._read_policies()
        evidence = await self._evidence(seen)
        taught = [
            (one.exchange_id, one.found[tasks].task, one.found[tasks].text)
            for one in seen
            if one.teacher and tasks in one.found and len(one.found[tasks].text) <= MOST_CHARACTERS
        ]
        self.books.keep_watch(PLACE, rows[-1].number, evidence, taught)
        for _, posted in self._posted(Mode.SERVING):
            if asked := asked_live(posted.charter, seen):
                self._look_at_inputs(posted.version, asked)
        return True

    def _pass_by(self) -> None:
        """Leave what is booked unread."""
        newest = self.books.newest()
        if newest > self.books.watch_place(PLACE):
            self.books.keep_watch(PLACE, newest, {}, ())

    def _look_at_inputs(self, version: Version, asked: list[tuple[int, str, str, float]]) -> None:
        """Hear of requests in the order in which they came, once their teachers have answered too.

        A student's answers are booked sooner than those it leaves to the teacher, so that in the
        order of the books a stream would begin with the easy ones.
        """
        waiting = sorted(self._unsettled.pop(version, []) + asked)
        settled = bisect_left(waiting, (waiting[-1][0] - SETTLED_US,))
        self.judges[version].look_at_inputs([one[1:] for one in waiting[:settled]])
        self._unsettled[version] = waiting[settled:]

    def _posted(self, *modes: Mode) -> Iterator[tuple[History, Posted]]:
        """Versions that gather, with the history of their task."""
        for history in self._histories.values():
            for posted in history.posted:
                if not modes or posted.standing.mode in modes:
                    yield history, posted

    def _read_policies(self) -> None:
        """Learn which versions stand where, if that has changed, and see that it is told."""
        number = self.books.policy_number()
        if number == self._number:
            return
        events: dict[str, list[PolicyEvent]] = defaultdict(list)
        for event in self.books.policy_events():
            events[event.task].append(event)
        posted: dict[str, list[Posted]] = defaultdict(list)
        for charter in self.books.charters():
            standing = lifecycle.standings(events[charter.task]).get(charter.version)
            if standing is not None and standing.mode in _GATHERING:
                terms = self.terms_of(charter.task)
                posted[charter.task].append(Posted(charter, standing, terms))
                self._of_digest(charter.recogniser)
        for event in (event for task in events.values() for event in task):
            if event.number > self._number:
                self._tell(noticed(event))
        self._histories = {
            task: History(tuple(of_task), served_spans(of_task), tuple(posted[task]))
            for task, of_task in events.items()
        }
        self._number = number
        now = {one.version: one.standing for _, one in self._posted()}
        self.judges = {v: j for v, j in self.judges.items() if now.get(v) == j.standing}

    def _of_digest(self, digest: str) -> str:
        """See that a recogniser is known; its digest."""
        if digest and digest not in self._recognisers:
            self._recognisers[digest] = Recogniser.read(self.books.get_artefact(digest))
        return digest

    def _void(self, seen: Sequence[Seen]) -> bool:
        """Void every certificate that another teacher has answered under, or another prompt.

        False where there was none; else policies have changed.
        """
        tried = False
        for history, posted in self._posted():
            why = next(filter(None, (voiding(posted, one) for one in seen)), "")
            if why:
                tried = True
                self._change(history, posted, lifecycle.void, why=why)
        return tried

    async def _evidence(self, seen: Sequence[Seen]) -> dict[Version, list[Evidence]]:
        """What each version said of each row that may be evidence of it."""
        evidence: dict[Version, list[Evidence]] = {}
        for history, posted in self._posted():
            about = [(one, audits(one, history.served)) for one in seen]
            rows = [(one, of) for one, of in about if of and judgeable(posted.charter, one)]
            evidence[posted.version] = await self._of_version(posted, rows)
        return evidence

    async def _of_version(self, posted: Posted, rows: Sequence[tuple[Seen, str]]) -> list[Evidence]:
        """Rows that a version was not asked about live are put to it now, in bulk."""
        charter = posted.charter
        live = [said_already(charter, one) for one, _ in rows]
        texts = [
            judgeable(charter, one)
            for (one, _), known in zip(rows, live, strict=True)
            if known is None
        ]
        heard = await self._ask(charter.student, list(dict.fromkeys(texts)))
        found = []
        for (one, about), known in zip(rows, live, strict=True):
            said = known if known is not None else heard.get(judgeable(charter, one))
            if said is not None:
                found.append(evidence_of(charter, one, about, said))
        return found

    async def _ask(self, student: str, texts: list[str]) -> dict[str, Said]:
        """What a student says of texts; nothing where it stayed away for long enough."""
        heard = await self.students.ask_many(student, texts) if texts else []
        if heard is None:
            self._away[student] = self._away.get(student, 0) + 1
            if self._away[student] <= PATIENCE:
                raise StudentsAwayError(student)
            return {}
        if texts:
            self._away.pop(student, None)
        said = ((one.prediction.label, one.prediction.score) for one in heard)
        return dict(zip(texts, said, strict=True))

    def _judge_all(self) -> bool:
        """Ask the gates and the detectors; whether anything was to be changed."""
        changes = [self._judge(history, posted) for history, posted in self._posted()]
        return any(changes)

    def _judge(self, history: History, posted: Posted) -> bool:
        judge = self.judges.get(posted.version)
        if judge is None:
            since_us = serving_since(history.events, posted.charter.version)
            judge = Judge(posted.charter, posted.standing, posted.terms, since_us)
            self.judges[posted.version] = judge
        judge.take(list(self.books.evidence(*posted.version, judge.read)))
        match posted.standing.mode:
            case Mode.SHADOW:
                return self._open(history, posted, judge)
            case Mode.CERTIFIED:
                return self._promote(history, posted, judge)
            case Mode.SERVING:
                return self._watch_answers(history, posted, judge)
        return False

    def _open(self, history: History, posted: Posted, judge: Judge) -> bool:
        """Look at the gate; where it opens, certify.

        A version that had a threshold before is a person's affair: an alarm may have raised it.
        """
        if posted.standing.threshold is not None or not judge.due:
            return False
        certificate = judge.certificate()
        if certificate is None:
            return False
        if self.books.verdict(*posted.version) != certificate:
            self.books.add_verdict(*posted.version, certificate, self.now_us())
        why = (
            f"{certificate.n_disagreements} of {certificate.n_accepted} accepted answers disagree "
            f"in {certificate.n_calibration} audited rows: certified at {certificate.threshold:.4f}"
        )
        return self._change(history, posted, lifecycle.certify, certificate, why=why)

    def _promote(self, history: History, posted: Posted, judge: Judge) -> bool:
        """Let a certified version answer, if it beats the one that does on the same rows.

        Not where anything else was decided since, nor while a person has the task paused.
        """
        if not posted.terms.auto_promote:
            return False
        since = [event for event in history.events if event.event not in _PASSING]
        overtaken = since[-1][1:3] != (posted.charter.version, Change.CERTIFIED)
        if overtaken or any(one.standing.mode is Mode.PAUSED for one in history.posted):
            return False
        certificate = self.books.verdict(*posted.version)
        if not isinstance(certificate, Certificate):
            return False
        why = "the gate opened, and the configuration lets it promote"
        old = next((one for one in history.posted if one.standing.mode is Mode.SERVING), None)
        if old is not None:
            if not judge.due:
                return False
            judge.look()
            before, after, rows = self._compare(posted, certificate.threshold, old)
            why = (
                f"of {rows:,} rows that both have seen, version {posted.charter.version} would "
                f"answer {after:,} and version {old.charter.version} {before:,}"
            )
            if rows < FEWEST_COMPARED or after <= before:
                self._tell(_notice("not_better", posted, why, since[-1].number, self.now_us()))
                return False
        share = posted.terms.canary_share
        return self._change(history, posted, lifecycle.promote, certificate, why=why, share=share)

    def _compare(self, new: Posted, threshold: float, old: Posted) -> tuple[int, int, int]:
        """How many of the rows that both saw the old and the new version would answer."""
        seen = {one.exchange_id: one.score for one in self.books.evidence(*old.version)}
        bar = old.standing.threshold
        both = [
            (seen[one.exchange_id], one.score)
            for one in self.books.evidence(*new.version)
            if one.exchange_id in seen
        ]
        before = sum(bar is not None and score >= bar for score, _ in both)
        return before, sum(score >= threshold for _, score in both), len(both)

    def _watch_answers(self, history: History, posted: Posted, judge: Judge) -> bool:
        """Answer alarms as the terms say: one level stricter, stop, or tell."""
        finding = judge.finding()
        if finding is None:
            return posted.terms.auto_promote and self._widen(history, posted, judge)
        if verb := finding.verb(posted.charter):
            return self._change(history, posted, verb, why=finding.why)
        since_us = posted.standing.since_us
        self._tell(_notice("inputs", posted, finding.why, since_us, self.now_us()))
        return False

    def _widen(self, history: History, posted: Posted, judge: Judge) -> bool:
        """Let a version answer more where the gate has opened further; valid at every look.

        Not after an alarm: what was proven before it has been doubted since. Nor where a person
        has chosen the threshold.
        """
        version, bar = posted.charter.version, posted.standing.threshold
        mine = [event for event in history.events if event.version == version]
        ours = mine[-1].who == lifecycle.MONITOR and mine[-1].event == Change.PROMOTED
        if bar is None or not judge.due or not ours:
            return False
        certificate = judge.certificate()
        judge.look()
        if certificate is None or judge.gain(bar, certificate.threshold) < WORTH_WIDENING:
            return False
        self.books.add_verdict(*posted.version, certificate, self.now_us())
        standing = posted.standing
        why = (
            f"{certificate.n_disagreements} of {certificate.n_accepted} accepted answers disagree "
            f"in {certificate.n_calibration} audited rows: widened to {certificate.threshold:.4f}"
        )
        shown = {"share": standing.share, "keys": standing.keys}
        return self._change(history, posted, lifecycle.promote, certificate, why=why, **shown)

    def _change(
        self,
        history: History,
        posted: Posted,
        verb: Callable[..., PolicyEvent],
        *given: object,
        **facts: object,
    ) -> bool:
        """Append a change, unless the task has changed since it was read. Always True.

        Whichever it was, there is something new to read; the next step decides on that.
        """
        task, version = posted.version
        event = verb(
            history.events,
            version,
            *given,
            task=task,
            who=lifecycle.MONITOR,
            at_us=self.now_us(),
            **facts,
        )
        self.books.add_policy_event(event, history.number)
        return True

    def _tell(self, notice: Notice) -> None:
        if notice.notice_id not in self._told:
            self.books.add_notice(notice)
            self._told.add(notice.notice_id)


def noticed(event: PolicyEvent) -> Notice:
    """What is told of a change, the same whoever tells it."""
    task, version, change, why, who, at_us, detail, number = event
    notice_id = f"{task}-v{version}-{change}-{number}"
    return Notice(notice_id, change, task, version, f"{who}: {why}", at_us, detail)


def _notice(kind: str, posted: Posted, sentence: str, number: int, at_us: int) -> Notice:
    """What is told of a version that stays as it is: once, whatever `number` counts."""
    task, version = posted.version
    facts = {"threshold": posted.standing.threshold, "mode": posted.standing.mode.value}
    notice_id = f"{task}-v{version}-{kind}-{number}"
    return Notice(notice_id, kind, task, version, sentence, at_us, facts)

"""Turns answered requests into three sets of three types, in time order, by groups."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stillhouse.core.learning import CalibrationSet, Dataset, Row, TestSet, TrainSet
from stillhouse.core.traffic import Completion
from stillhouse.distillation.answers import normalise_label, read_answer
from stillhouse.distillation.duplicates import near_duplicate_groups, root
from stillhouse.risk.refusal import Repeats

CALIBRATION_SHARE = 0.25
TEST_SHARE = 0.15
HELD_OUT_SHARE = 0.2
RAREST_LABEL = 2
"""A label seen fewer times than this in training cannot be learnt: it is left to the teacher."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered request: its id, its place in time, what was asked and answered.

    `group` is a declared group (a customer, a document layout), empty where none is declared.
    `literal` is the answer as the teacher wrote it. `tool` says that it chose a tool, `arguments`
    that it gave it any. `audited` rows may calibrate; those that came to the teacher because a
    student was unsure say nothing of all the others, and may only be learnt from.
    """

    row_id: str
    text: str
    answer: str
    group: str = ""
    literal: str = ""
    tool: bool = False
    arguments: bool = False
    audited: bool = True


def answered_row(row_id: str, text: str, completion: Completion, group: str = "") -> Answered:
    """One answered request, from what the teacher said.

    >>> answered_row("r1", "Where is it?", Completion("Card_Arrival."))
    Answered(row_id='r1', text='Where is it?', answer='card arrival', group='',
    literal='Card_Arrival.', tool=False, arguments=False, audited=True)
    """
    return Answered(
        row_id,
        text,
        read_answer(completion).value,
        group,
        literal=completion.tool or completion.text.strip(),
        tool=bool(completion.tool),
        arguments=bool(completion.tool) and _has_arguments(completion.tool_arguments),
    )


def _has_arguments(written: str) -> bool:
    """Whether arguments say anything; what cannot be read does."""
    try:
        return bool(json.loads(written)) if written.strip() else False
    except (ValueError, RecursionError):
        return True


def build(task: str, answered: Sequence[Answered], for_test: Collection[str] = ()) -> Dataset:
    """Split rows, given in time order, into training, calibration and test sets.

    Labels are normalised; exact and near duplicates and declared groups are joined, and a group
    goes whole to the set in which its first row falls. `for_test` names rows that are kept for
    the test set whatever their time; without it the last 15 % are. Of rows that are not audited
    only those in the training set are kept.
    """
    rows = grouped(answered)
    audited = {row.row_id for row in answered if row.audited}
    chosen = set(for_test)
    apart = [row for row in rows if row.row_id in chosen]
    taken = {row.group for row in apart}
    open_rows = [row for row in rows if row.row_id not in chosen and row.group not in taken]
    if chosen:
        train, calibration = _in_time(open_rows, (1 - CALIBRATION_SHARE, CALIBRATION_SHARE))
        return assemble(task, train, _among(audited, calibration), _among(audited, apart))
    shares = (1 - CALIBRATION_SHARE - TEST_SHARE, CALIBRATION_SHARE, TEST_SHARE)
    train, calibration, test = _in_time(open_rows, shares)
    return assemble(task, train, _among(audited, calibration), _among(audited, test))


def _among(wanted: Collection[str], rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.row_id in wanted]


def assemble(
    task: str, train: Iterable[Row], calibration: Iterable[Row], test: Iterable[Row]
) -> Dataset:
    """Make a dataset of rows that are split already; its digest is the hash of their content."""
    sets = [tuple(train), tuple(calibration), tuple(test)]
    digest = hashlib.blake2b(task.encode("utf-8"), digest_size=16)
    for number, rows in enumerate(sets):
        for row in rows:
            # As a literal, so that no text can look like the border between two rows.
            digest.update(ascii((number, row.row_id, row.group, row.label, row.text)).encode())
    counts = Counter(row.label for row in sets[0])
    labels = tuple(sorted(label for label, n in counts.items() if n >= RAREST_LABEL))
    return Dataset(
        task=task,
        digest=digest.hexdigest(),
        labels=labels,
        train=TrainSet(tuple(row for row in sets[0] if row.label in set(labels))),
        calibration=CalibrationSet(sets[1]),
        test=TestSet(sets[2]),
    )


def rehearsal_split(train: TrainSet) -> tuple[TrainSet, TrainSet]:
    """Hold a fifth of the training groups out, chosen by the hash of their first row's id."""
    first: dict[int, str] = {}
    for row in train.rows:
        first.setdefault(row.group, row.row_id)
    bar = int(HELD_OUT_SHARE * 2**32)
    apart = {group for group, row_id in first.items() if _hash(row_id) < bar}
    if first and not apart:  # few groups: chance may hold none out, and then nothing is learnt
        apart = {min(first, key=lambda group: _hash(first[group]))}
    kept = tuple(row for row in train.rows if row.group not in apart)
    return TrainSet(kept), TrainSet(tuple(row for row in train.rows if row.group in apart))


def repeats(answered: Iterable[Answered]) -> Repeats:
    """How often the teacher gave the same answer when the very same text came again."""
    answers: dict[str, list[str]] = defaultdict(list)
    for row in answered:
        answers[" ".join(row.text.split())].append(normalise_label(row.answer))
    pairs = equal = 0
    for given in answers.values():
        pairs += len(given) - 1
        equal += sum(a == b for a, b in pairwise(given))
    return Repeats(pairs, equal)


def grouped(answered: Sequence[Answered]) -> list[Row]:
    """Normalise labels and join near duplicates and declared groups; positions are time order."""
    near = near_duplicate_groups([row.text for row in answered])
    groups = _merged(near, [row.group for row in answered])
    return [
        Row(row.row_id, row.text, normalise_label(row.answer), group, position)
        for position, (row, group) in enumerate(zip(answered, groups, strict=True))
    ]


def _merged(near: list[int], declared: list[str]) -> list[int]:
    """Join near duplicates with declared groups: whoever shares either shares a group."""
    parent = list(range(len(near)))
    home: dict[object, int] = {}
    for number, keys in enumerate(zip(near, declared, strict=True)):
        for key in (keys[0], keys[1] or None):
            if key is not None:
                other = root(parent, home.setdefault(key, number))
                own = root(parent, number)
                parent[max(own, other)] = min(own, other)
    return [root(parent, number) for number in range(len(near))]


def _in_time(rows: Sequence[Row], shares: Sequence[float]) -> list[list[Row]]:
    """Deal groups out in the order of their first rows until each share is reached."""
    members: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.group].append(row)
    parts: list[list[Row]] = [[] for _ in shares]
    part, placed, reach = 0, 0, shares[0] * len(rows)
    for group in members.values():
        while placed >= reach and part < len(parts) - 1:
            part += 1
            reach += shares[part] * len(rows)
        parts[part] += group
        placed += len(group)
    return [sorted(found, key=lambda row: row.position) for found in parts]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=4).digest(), "big")

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Student
from stillhouse.students import artefact
from stillhouse.students.shelf import read_student

HEADER = {"recipe": "constant", "labels": ["no", "yes"]}
SHARES = {"log_share": np.log(np.array([0.25, 0.75], dtype=np.float32))}
GOOD = artefact.write(HEADER, SHARES)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def zipped(**members: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **members)  # type: ignore[arg-type]
    return buffer.getvalue()


def text(words: bytes) -> np.ndarray:
    return np.frombuffer(words, dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in an artefact and in the artefacts of its voices."""
    with zipfile.ZipFile(io.BytesIO(content)) as files:
        for name in files.namelist():
            body = files.read(name)
            yield name, body
            if name.startswith("voice"):
                array = np.load(io.BytesIO(body), allow_pickle=False)
                yield from members(array.tobytes())


@pytest.mark.parametrize("recipe", ["constant", "lexical", "embedding", "blend"])
def test_an_artefact_holds_plain_arrays_and_no_pickle(
    students: dict[str, Student], recipe: str
) -> None:
    content = students[recipe].to_bytes()
    names = [name for name, _ in members(content)]
    assert "header.npy" in names
    for name, body in members(content):
        assert name.endswith(".npy")
        array = np.load(io.BytesIO(body), allow_pickle=False)
        assert array.dtype.kind in "fiu"
        # After the numbers nothing follows that a loader could run.
        assert body.startswith(b"\x93NUMPY")
        assert body.endswith(array.tobytes())
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(body)


def test_a_pickle_in_an_artefact_is_not_run(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "trace")
    with pytest.raises(StoreError):
        read_student(zipped(header=np.array([trap], dtype=object)))
    assert not trap.trace.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.trace.exists(), "the trap must be able to spring"


def test_the_same_content_gives_the_same_bytes() -> None:
    assert artefact.write(HEADER, SHARES) == GOOD
    assert artefact.write(dict(reversed(HEADER.items())), SHARES) == GOOD


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "these 0 bytes are no student"),
        (b"hello", "these 5 bytes are no student"),
        (pickle.dumps({"recipe": "constant"}), "are no student"),
        (npy(np.zeros(3)), "are no student"),
        (zipped(header=np.array([{"format": 1}], dtype=object)), "are no student"),
        (zipped(header=text(b"not json")), "are no student"),
        (zipped(header=text(b"[1]")), "are no student"),
        (zipped(labels=text(b"{}")), "are no student"),
        (zipped(header=text(b'{"format":2}')), "format 2, this version reads 1"),
        (zipped(header=text(b"{}")), "format None, this version reads 1"),
        (artefact.write({"recipe": "oracle"}, {}), "recipe is 'oracle'"),
        (artefact.write({}, {}), "lacks its part 'recipe'"),
        (artefact.write(HEADER, {}), "lacks its part 'log_share'"),
        (artefact.write({"recipe": "blend", "weights": [1.0]}, {}), "lacks its part 'voice0'"),
        (artefact.write({"recipe": "blend", "weights": [1]}, {"voice0": text(b"?")}), "1 bytes"),
    ],
)
def test_what_is_no_student_is_refused_in_one_sentence(content: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        read_student(content)
    assert str(refused.value).endswith(("distil again", "upgrade stillhouse"))
    assert ". " not in str(refused.value)


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_an_artefact_cut_short_is_refused(length: int) -> None:
    with pytest.raises(StoreError, match="damaged"):
        read_student(GOOD[:length])


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_does_no_harm(place: int, flip: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] ^= flip
    try:
        answers = read_student(bytes(damaged)).predict(["a"])
    except StoreError:
        return
    assert answers == read_student(GOOD).predict(["a"])


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1)))
def test_packed_strings_come_back(strings: list[str]) -> None:
    assert artefact.unpacked(artefact.packed(strings)) == strings

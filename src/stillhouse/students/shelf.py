"""Reads any student back from its artefact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy.typing as npt

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Encoder, Student
from stillhouse.students import artefact
from stillhouse.students.blend import BlendStudent, Voice
from stillhouse.students.constant import ConstantStudent
from stillhouse.students.embedding import EmbeddingStudent
from stillhouse.students.encoders import open_encoder
from stillhouse.students.lexical import LexicalStudent


def read_student(content: bytes, encoder: Callable[[str], Encoder] = open_encoder) -> Student:
    """Read a student; `encoder` opens the encoder that the artefact names."""
    header, arrays = artefact.read(content)
    try:
        return _student(header, arrays, encoder)
    except KeyError as missing:
        raise StoreError(f"the student lacks its part {missing}; distil again") from missing


def _student(
    header: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
    encoder: Callable[[str], Encoder],
) -> Student:
    match header["recipe"]:
        case "constant":
            return ConstantStudent.read(header, arrays)
        case "lexical":
            return LexicalStudent.read(header, arrays)
        case "embedding":
            return EmbeddingStudent.read(header, arrays, encoder)
        case "blend":

            def voice(part: bytes) -> Voice:
                return cast(Voice, read_student(part, encoder))

            return BlendStudent.read(header, arrays, voice)
        case other:
            raise StoreError(
                f"the student's recipe is {other!r}, unknown to this version; upgrade stillhouse"
            )

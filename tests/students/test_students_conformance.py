"""The conformance suites catch what they say they catch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt
import pytest

from stillhouse.core.learning import Prediction
from stillhouse.testing import check_encoder, check_student

Vectors = npt.NDArray[np.float32]


@dataclass
class Scripted:
    """A student that says yes with a score that follows from the length of the text."""

    body: bytes = b"scripted"
    recipe: str = "scripted"
    labels: tuple[str, ...] = ("yes", "no")

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("yes", 0.5 + 0.5 / (1 + len(text))) for text in texts]

    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        shares = [(said.score, said.label == "yes") for said in self.predict(texts)]
        rows = [(share, 1 - share) if yes else (1 - share, share) for share, yes in shares]
        return np.array(rows).reshape(len(rows), 2)

    def to_bytes(self) -> bytes:
        return self.body


class ForeignLabel(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("perhaps", 0.5) for _ in texts]


class NoProbability(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("yes", float(len(text))) for text in texts]


class NotANumber(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("yes", float("nan")) for _ in texts]


class ByBatch(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("yes", 0.5 + 0.5 / len(texts)) for _ in texts]


class ByPlace(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("yes" if place % 2 else "no", 0.5) for place, _ in enumerate(texts)]


class LosesText(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return super().predict([text for text in texts if text])


class StumblesOverNul(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        assert not any("\0" in text for text in texts), "NUL"
        return super().predict(texts)


class SaysSomethingToNobody(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return super().predict(texts) or [Prediction("yes", 0.5)]


class Forgetful(Scripted):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("no", 0.5) for _ in texts]


class SumsToMore(Scripted):
    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return super().odds(texts) * 1.5


class OddsOfAnother(Scripted):
    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return super().odds(texts)[:, ::-1]


class OddsUnlikeItsScore(Scripted):
    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.tile([1.0, 0.0], (len(texts), 1))


class OddsOfTooFew(Scripted):
    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return super().odds(texts)[1:]


class OddsOfNobody(Scripted):
    def odds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return super().odds(texts or [""])


def test_a_conforming_student_passes() -> None:
    check_student(Scripted, ["one", "two words"], Scripted)


@pytest.mark.parametrize(
    ("student", "caught"),
    [
        (ForeignLabel, "got the label 'perhaps'"),
        (NoProbability, "got the score"),
        (NotANumber, "got the score nan"),
        (ByBatch, "asked alone got"),
        (ByPlace, "asked alone got"),
        (LosesText, "answers"),
        (StumblesOverNul, "NUL"),
        (SaysSomethingToNobody, "no texts get no answers"),
        (SumsToMore, "no shares of one"),
        (OddsOfAnother, "has a likelier label"),
        (OddsUnlikeItsScore, "odds 1.0"),
        (OddsOfTooFew, "the odds have the shape"),
        (OddsOfNobody, "no texts get no odds"),
    ],
)
def test_a_student_that_breaks_a_promise_is_caught(student: type[Scripted], caught: str) -> None:
    with pytest.raises(AssertionError, match=caught):
        check_student(student, ["one", "two words"], student)


def test_a_student_that_is_read_back_as_another_is_caught() -> None:
    with pytest.raises(AssertionError, match="answers otherwise"):
        check_student(Scripted, ["one"], Forgetful)
    with pytest.raises(AssertionError, match="read back as another"):
        check_student(Scripted, ["one"], lambda body: Scripted(body, labels=("yes",)))
    with pytest.raises(AssertionError, match="the artefact has changed"):
        check_student(Scripted, ["one"], lambda _: Scripted(b"other"))


def test_a_student_that_is_another_each_time_it_is_fitted_is_caught() -> None:
    times = count()
    with pytest.raises(AssertionError, match="fitted again"):
        check_student(lambda: Scripted(str(next(times)).encode()), ["one"], Scripted)


@dataclass
class ScriptedEncoder:
    """Counts letters."""

    name: str = "scripted"
    dimension: int = 26
    shift: float = 0.0

    def encode(self, texts: Sequence[str]) -> Vectors:
        counts = [[text.count(chr(97 + n)) for n in range(26)] for text in texts]
        return np.array(counts, dtype=np.float32).reshape(len(texts), 26) + np.float32(self.shift)


class NormalisesTheBatch(ScriptedEncoder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = super().encode(texts)
        return vectors - vectors.mean(axis=0) if len(texts) else vectors


class Doubles(ScriptedEncoder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts).astype(np.float64)


class DividesByLength(ScriptedEncoder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        with np.errstate(all="ignore"):
            lengths = np.array([[len(text)] for text in texts], dtype=np.float32).reshape(-1, 1)
            return super().encode(texts) / lengths


class SaysOneThing(ScriptedEncoder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 26), dtype=np.float32)


def test_a_conforming_encoder_passes() -> None:
    check_encoder(ScriptedEncoder)


@pytest.mark.parametrize(
    ("encoder", "caught"),
    [
        (NormalisesTheBatch, "from its batch"),
        (Doubles, "float64, not float32"),
        (DividesByLength, "not finite"),
        (SaysOneThing, "share a vector"),
        (lambda: ScriptedEncoder(name=""), "needs a name"),
        (lambda: ScriptedEncoder(dimension=25), "the shape is"),
    ],
)
def test_an_encoder_that_breaks_a_promise_is_caught(
    encoder: type[ScriptedEncoder], caught: str
) -> None:
    with pytest.raises(AssertionError, match=caught):
        check_encoder(encoder)


def test_an_encoder_that_opens_as_another_is_caught() -> None:
    times = count()
    with pytest.raises(AssertionError, match="opened as another"):
        check_encoder(lambda: ScriptedEncoder(name=str(next(times)) + "v"))
    with pytest.raises(AssertionError, match="other vectors"):
        check_encoder(lambda: ScriptedEncoder(shift=next(times)))

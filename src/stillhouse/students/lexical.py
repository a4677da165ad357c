"""Word and character n-grams with a linear head: the cheapest student that learns anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stillhouse.core.learning import Prediction, TrainSet
from stillhouse.core.ports import Rehearsal, Student
from stillhouse.students import artefact
from stillhouse.students.linear import (
    Matrix,
    Odds,
    full_weights,
    mixing_weights,
    odds_of,
    predictions,
    targets,
)

MOST_FEATURES = 60_000
_WORD = re.compile(r"\w+")


def n_grams(text: str) -> tuple[list[str], list[str]]:
    """Words and pairs of words; letters 2 to 5 at a time inside each word with its edges.

    >>> words, letters = n_grams("No PIN")
    >>> words
    ['\\tno', '\\tpin', '\\tno pin']
    >>> letters[:7]
    [' n', 'no', 'o ', ' no', 'no ', ' no ', ' p']
    """
    lower = text.lower()
    words = _WORD.findall(lower)
    pairs = [f"\t{a} {b}" for a, b in pairwise(words)]
    letters: list[str] = []
    for word in lower.split():
        edged = f" {word} "
        for n in range(2, min(5, len(edged)) + 1):
            letters += [edged[i : i + n] for i in range(len(edged) - n + 1)]
    return [f"\t{w}" for w in words] + pairs, letters


class Vocabulary:
    """The n-grams worth counting, and how rare each is."""

    def __init__(self, grams: list[str], rarity: npt.NDArray[np.float32]) -> None:
        self.grams = grams
        self.rarity = rarity
        self._place = {gram: place for place, gram in enumerate(grams)}

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Vocabulary:
        """Keep what occurs in two texts or more, the commonest first where there are too many."""
        frequency: Counter[str] = Counter()
        n_texts = 0
        for text in texts:
            words, letters = n_grams(text)
            frequency.update({*words, *letters})
            n_texts += 1
        kept = sorted((-n, gram) for gram, n in frequency.items() if n > 1)[:MOST_FEATURES]
        grams = sorted(gram for _, gram in kept)
        counts = np.array([frequency[gram] for gram in grams], dtype=np.float64)
        return cls(grams, (np.log((1 + n_texts) / (1 + counts)) + 1).astype(np.float32))

    def matrix(self, texts: Sequence[str]) -> Any:
        """Weighted counts, a sparse array of shape [texts, grams]: (1 + log count) x rarity.

        Words and letters are scaled to length 1 each, so that long words do not drown short ones.
        """
        from scipy import sparse  # who only predicts need not wait for it

        places: list[int] = []
        values: list[npt.NDArray[np.float32]] = []
        ends = [0]
        for text in texts:
            for grams in n_grams(text):
                found, weights = self._weigh(grams)
                places += found
                values.append(weights)
            ends.append(len(places))
        data = np.concatenate(values) if values else np.zeros(0, dtype=np.float32)
        shape = (len(texts), len(self.grams))
        # scikit-learn takes 32-bit places only
        columns, rows = np.array(places, dtype=np.int32), np.array(ends, dtype=np.int32)
        return sparse.csr_array((data, columns, rows), shape=shape, dtype=np.float32)

    def weighed(self, text: str) -> tuple[list[int], npt.NDArray[np.float32]]:
        """A text's row of the matrix: places and values."""
        words, letters = map(self._weigh, n_grams(text))
        return words[0] + letters[0], np.concatenate((words[1], letters[1]))

    def _weigh(self, grams: list[str]) -> tuple[list[int], npt.NDArray[np.float32]]:
        counts = Counter(map(self._place.get, grams))
        counts.pop(None, None)
        found = cast(list[int], list(counts))
        weights = (1 + np.log(np.fromiter(counts.values(), np.float32))) * self.rarity[found]
        return found, (weights / max(1e-9, float(np.sqrt(weights @ weights)))).astype(np.float32)


class LexicalStudent:
    """A vocabulary and one weight per n-gram and label."""

    recipe = "lexical"

    def __init__(
        self, labels: tuple[str, ...], vocabulary: Vocabulary, weights: Matrix, offset: Matrix
    ) -> None:
        self.labels = labels
        self._vocabulary = vocabulary
        self._weights = weights
        self._offset = offset

    def logits(self, texts: Sequence[str]) -> Matrix:
        """How strongly each label is spoken for: shape [texts, labels].

        Text by text, and the rows of the weights summed one after the other: the very sums of the
        sparse product, which takes half a second to import and longer for one text.
        """
        total = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            places, values = self._vocabulary.weighed(text)
            np.add.reduce(self._weights[places] * values[:, None], axis=0, out=total[row])
        return total + self._offset

    def odds(self, texts: Sequence[str]) -> Odds:
        """The labels' probabilities: shape [texts, labels]."""
        return odds_of(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts."""
        return predictions(self.logits(texts), self.labels)

    def to_bytes(self) -> bytes:
        """The artefact."""
        header = {"recipe": self.recipe, "labels": self.labels}
        return artefact.write(
            header,
            {
                "grams": artefact.packed(self._vocabulary.grams),
                "rarity": self._vocabulary.rarity,
                "weights": self._weights,
                "offset": self._offset,
            },
        )

    @classmethod
    def read(
        cls, header: Mapping[str, list[str]], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> LexicalStudent:
        """Read back an artefact's header and arrays."""
        vocabulary = Vocabulary(artefact.unpacked(arrays["grams"]), arrays["rarity"])
        return cls(tuple(header["labels"]), vocabulary, arrays["weights"], arrays["offset"])


class LexicalRecipe:
    """A linear support vector machine over n-grams."""

    name = "lexical"
    voices = ()

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Fit on some rows, and set the scale of the margins on the others."""
        logits = _fit(train, labels, seed, 1.0).logits([row.text for row in held_out.rows])
        scale = float(mixing_weights([logits], targets(held_out.rows, labels))[0])
        return Rehearsal(logits * np.float32(scale), (scale,))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Fit on all training rows."""
        return _fit(train, labels, seed, rehearsal.weights[0])


def _fit(train: TrainSet, labels: tuple[str, ...], seed: int, scale: float) -> LexicalStudent:
    from sklearn.svm import LinearSVC

    texts = [row.text for row in train.rows]
    vocabulary = Vocabulary.learn(texts)
    model = LinearSVC(C=0.3, random_state=seed)
    model.fit(vocabulary.matrix(texts), targets(train.rows, labels))
    weights, offset = full_weights(model, len(labels))
    scaled = np.float32(scale)
    return LexicalStudent(labels, vocabulary, weights * scaled, offset * scaled)

"""A small task written by hand, and every recipe fitted on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stillhouse.core.learning import Row, TrainSet
from stillhouse.core.ports import Recipe, Rehearsal, Student
from stillhouse.distillation import ladder
from stillhouse.students.blend import BlendRecipe
from stillhouse.students.constant import ConstantRecipe
from stillhouse.students.embedding import EmbeddingRecipe
from stillhouse.students.encoders import shipped_encoder
from stillhouse.students.lexical import LexicalRecipe

ASKED = {
    "card lost": (
        "I lost my card",
        "my card is lost, please block it",
        "someone stole my card",
        "I cannot find my card anywhere",
        "my card was stolen on the train",
        "I have lost my bank card",
        "please block my stolen card",
        "the card is gone, I think it was stolen",
    ),
    "refund": (
        "I want my money back",
        "please refund this purchase",
        "when do I get my refund",
        "the shop promised me a refund",
        "can you give me the money back for my order",
        "my refund has not arrived",
        "I would like a refund for the order",
        "give me my money back please",
    ),
    "exchange rate": (
        "what is the exchange rate for euros",
        "which rate do you use to exchange dollars",
        "how much is a pound in euros today",
        "the exchange rate of my payment is wrong",
        "what rate did you use for my payment in dollars",
        "is your exchange rate better than that of my bank",
        "how do you set the rate of exchange",
        "tell me the rate for euros and dollars",
    ),
}
LABELS = tuple(sorted(ASKED))
UNSEEN = {
    "help, my card got stolen yesterday": "card lost",
    "I am still waiting for my refund": "refund",
    "what exchange rate do I get for dollars": "exchange rate",
}
PAIRS = [(text, label) for label, texts in ASKED.items() for text in texts]


def train_set(pairs: list[tuple[str, str]]) -> TrainSet:
    return TrainSet(tuple(Row(f"r{n}", text, label, n, n) for n, (text, label) in enumerate(pairs)))


def fitted(
    name: str, pairs: list[tuple[str, str]], labels: tuple[str, ...], seed: int = 0
) -> Student:
    """Rehearse with every fourth row held out, then fit on all."""
    ladder_of = recipes()
    kept, apart = train_set([p for n, p in enumerate(pairs) if n % 4]), train_set(pairs[::4])
    said: dict[str, Rehearsal] = {}
    for each in (*ladder_of[name].voices, name):
        said[each] = ladder_of[each].rehearse(kept, apart, labels, seed, dict(said))
    return ladder.fit(name, ladder_of, said, train_set(pairs), labels, seed)


def recipes() -> dict[str, Recipe]:
    ladder_of: tuple[Recipe, ...] = (
        ConstantRecipe(),
        LexicalRecipe(),
        EmbeddingRecipe(shipped_encoder()),
        BlendRecipe(),
    )
    return {recipe.name: recipe for recipe in ladder_of}


@pytest.fixture(scope="session")
def fit() -> Callable[..., Student]:
    """Fits a recipe by name, on the task above unless other pairs and labels are given."""

    def make(
        name: str,
        pairs: list[tuple[str, str]] = PAIRS,
        labels: tuple[str, ...] = LABELS,
        seed: int = 0,
    ) -> Student:
        return fitted(name, pairs, labels, seed)

    return make


@pytest.fixture(scope="session")
def students(fit: Callable[..., Student]) -> dict[str, Student]:
    """A student of every recipe, fitted once on the task."""
    return {name: fit(name) for name in recipes()}


@pytest.fixture(scope="session")
def unseen() -> dict[str, str]:
    """Texts that no student was fitted on, and their labels."""
    return UNSEEN


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    """The rows of the task: texts and labels."""
    return PAIRS

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.students.lexical import Vocabulary, n_grams

TEXTS = ["where is my card", "where is my refund", "my card is lost"]


def test_what_occurs_in_one_text_only_is_not_counted() -> None:
    grams = Vocabulary.learn(TEXTS).grams
    assert {"\twhere", "\tis my", "\tcard", " card"[:5]} <= set(grams)
    assert not {"\trefund", "\tcard is", "lost"} & set(grams)
    assert grams == sorted(grams)


def test_a_rare_gram_weighs_more_than_a_common_one() -> None:
    found = Vocabulary.learn(TEXTS)
    rarity = dict(zip(found.grams, found.rarity.tolist(), strict=True))
    assert rarity["\twhere"] == pytest.approx(np.log(4 / 3) + 1)
    assert rarity["\tmy"] == pytest.approx(1.0)


def test_words_and_letters_have_length_one_each() -> None:
    found = Vocabulary.learn(TEXTS)
    words = np.array([gram.startswith("\t") for gram in found.grams])
    counts = found.matrix(TEXTS).toarray()
    assert (counts[:, words] ** 2).sum(axis=1) == pytest.approx(np.ones(3))
    assert (counts[:, ~words] ** 2).sum(axis=1) == pytest.approx(np.ones(3))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_counted_without_regard_to_case(text: str) -> None:
    found = Vocabulary.learn(TEXTS)
    counts = found.matrix([text, text.lower(), ""]).toarray()
    assert np.isfinite(counts).all()
    assert (counts[0] == counts[1]).all()
    assert not counts[2].any()


def test_letters_do_not_reach_over_the_edge_of_a_word() -> None:
    _, letters = n_grams("ab cd")
    assert " ab " in letters
    assert not [gram for gram in letters if " " in gram.strip()]

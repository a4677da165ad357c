from __future__ import annotations

import unicodedata
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from stillhouse.students.wordpiece import WordPiece
from stillhouse.testing.odd import ODD_TEXTS

VOCABULARY = Path(str(files("stillhouse.students") / "assets" / "vocab.txt"))
MARKS = {"CLS": 101, "SEP": 102, "UNK": 100}
OLD = unicodedata.ucd_3_2_0
# Characters that have been of one kind since long before the library's tables were made. The rest
# are a handful of marks and signs that Unicode moved or added later.
SETTLED = [
    c
    for c in map(chr, range(0x2FFFF))
    if OLD.category(c) == unicodedata.category(c) != "Cs" and OLD.category(c) != "Cn"
]


@pytest.fixture(scope="module")
def ours() -> WordPiece:
    return WordPiece.read(VOCABULARY)


@pytest.fixture(scope="module")
def theirs() -> BertWordPieceTokenizer:
    library = BertWordPieceTokenizer(str(VOCABULARY))
    library.enable_truncation(256)
    return library


@pytest.mark.parametrize(
    "text",
    [
        *ODD_TEXTS,
        "Where is my card?",
        "I've been charged £3.50 -- twice!",
        "ÅNGSTRÖM naïve ŁÓDŹ Straße ẞ ﬁ ﬀ ŉ",
        "ΟΔΟΣ ΣΑΣ İSTANBUL ǅ",
        "e\u0301 \u0345 n\u0303",
        "a\x0bb\x0cc\x1cd\x1fe\x85f",
        "a\u00a0b\u2028c\u3000d\u180ee\u200bf",
        "한국어 텍스트 हिन्दी ไทย 日本語のテスト",
        "1,234.56 3/4 ½ Ⅷ ²",
        "“quoted” ‘text’ —dash… €5 $5 ¥5 +=<>|~^`",
        "https://example.org/a_b?c=d#e",
        "\U0001fae8 \U0001fadc \U000e0041",
        "\ufffd\ufeff\u00ad",
        "x" * 100,
        "x" * 101,
        "é" * 100,
        "ß" * 101,
        "unaffable " * 200,
    ],
)
def test_a_text_is_cut_as_the_library_cuts_it(
    ours: WordPiece, theirs: BertWordPieceTokenizer, text: str
) -> None:
    assert ours.numbers(text) == theirs.encode(text).ids


@settings(deadline=None)
@given(text=st.text(st.sampled_from(SETTLED), max_size=40))
def test_any_text_is_cut_as_the_library_cuts_it(
    ours: WordPiece, theirs: BertWordPieceTokenizer, text: str
) -> None:
    assert ours.numbers(text) == theirs.encode(text).ids


def test_every_settled_character_is_taken_as_the_library_takes_it(
    ours: WordPiece, theirs: BertWordPieceTokenizer
) -> None:
    runs = [SETTLED[n : n + 60] for n in range(0, len(SETTLED), 60)]
    texts = [" ".join(f"a{c}b" for c in run) for run in runs]
    for text, encoded in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.numbers(text) == encoded.ids, ascii(text)


def test_a_mark_written_in_a_text_is_only_letters(ours: WordPiece) -> None:
    numbers = ours.numbers("[CLS] ignore [SEP] [UNK]")
    assert numbers.count(MARKS["CLS"]) == numbers.count(MARKS["SEP"]) == 1
    assert MARKS["UNK"] not in numbers


@pytest.mark.parametrize("limit", [3, 10, 256])
def test_a_long_text_is_cut_at_the_limit_with_its_end_mark(limit: int) -> None:
    numbers = WordPiece.read(VOCABULARY, limit).numbers("unaffable " * 300)
    assert len(numbers) == limit
    assert (numbers[0], numbers[-1]) == (MARKS["CLS"], MARKS["SEP"])

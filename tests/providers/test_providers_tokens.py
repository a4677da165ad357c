from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.providers.tokens import WHOLE_CHARACTERS, ShapeCounter

count = ShapeCounter().count


def test_an_empty_text_has_no_tokens_and_any_other_has_some() -> None:
    assert (count(""), count(" "), count("\n"), count("a"), count("é")) == (0, 1, 1, 1, 1)


@given(st.text())
def test_every_text_has_a_count_that_its_bytes_bound_and_that_stays_the_same(text: str) -> None:
    tokens = count(text)
    assert tokens == count(text)
    assert 0 <= tokens <= 2 * len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("text", "tokens"),  # as o200k counts them
    [
        ("The quick brown fox jumps over the lazy dog near the river bank.", 14),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 19),
        ('{"vendor_name": "Ostalune Print Ltd", "total_amount": 644.90}', 20),
        ("这个包裹还没有到,请退款。", 11),
        ("Посылка ещё не пришла, верните деньги, пожалуйста.", 14),
    ],
)
def test_short_texts_of_many_kinds_come_near_to_a_real_tokenizer(text: str, tokens: int) -> None:
    assert abs(count(text) - tokens) <= max(3, 0.35 * tokens)


def test_a_long_text_is_estimated_from_samples_that_agree_with_the_whole() -> None:
    line = "Order 4711 of 12 March has not arrived; please check with the carrier.\n"
    long = line * (3 * WHOLE_CHARACTERS // len(line))
    assert count(long) == pytest.approx(count(line) * len(long) / len(line), rel=0.03)


@pytest.mark.parametrize(
    ("rows", "prompt"),
    [
        ("banking77_deepseek_v4.1_flash.jsonl.gz", "banking77_teacher_prompt.md"),
        ("invoices_deepseek_v4_flash.jsonl.gz", "invoices_teacher_prompt.md"),
    ],
)
def test_recorded_prompts_are_counted_within_a_tenth_of_what_was_billed(
    recorded: Path, rows: str, prompt: str
) -> None:
    folder = recorded / f"{rows.partition('_')[0]}_deepseek"
    frame = count((folder / prompt).read_text(encoding="utf-8").strip())
    with gzip.open(folder / rows, "rt", encoding="utf-8") as lines:
        calls = [json.loads(line) for _, line in zip(range(1000), lines, strict=False)]
    ours = sum(frame + count(call["text"]) for call in calls)
    assert ours == pytest.approx(sum(call["prompt_tokens"] for call in calls), rel=0.1)

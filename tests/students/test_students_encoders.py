from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from stillhouse.core.errors import ConfigError
from stillhouse.students.encoders import SHIPPED, open_encoder, shipped_encoder
from stillhouse.testing import check_encoder

ASSETS = Path(str(files("stillhouse.students") / "assets"))
PAIRS = [
    ("Where is the parcel that I ordered?", "My delivery has not arrived."),
    ("How do I reset my password?", "I cannot log in any more."),
    ("The soup was cold and the waiter rude.", "We had a bad meal at this restaurant."),
    ("Will it rain in Oslo tomorrow?", "What is the weather forecast?"),
    ("The court dismissed the appeal.", "The judge ruled against the claimant."),
    ("My stomach hurts after eating.", "I have had belly pain since lunch."),
    ("Shares fell after the earnings call.", "The stock dropped on weak results."),
]


def test_the_shipped_encoder_conforms() -> None:
    check_encoder(lambda: shipped_encoder.__wrapped__(threads=1))


def test_the_nearest_sentence_is_the_one_that_means_the_same() -> None:
    encoder = shipped_encoder()
    asked, meant = (encoder.encode(side) for side in zip(*PAIRS, strict=True))
    centre = np.vstack([asked, meant]).mean(axis=0)
    near = (asked - centre) @ (meant - centre).T
    assert near.argmax(axis=1).tolist() == list(range(len(PAIRS)))
    assert near.argmax(axis=0).tolist() == list(range(len(PAIRS)))


@pytest.mark.parametrize("name", ["", SHIPPED])
def test_the_shipped_encoder_is_opened_once(name: str) -> None:
    assert open_encoder(name) is open_encoder(name)
    assert open_encoder(name).name == SHIPPED


def test_a_folder_with_a_model_and_a_tokenizer_is_an_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    (folder / "onnx").mkdir(parents=True)
    shutil.copy(ASSETS / "minilm_l6.onnx", folder / "onnx" / "model.onnx")
    BertWordPieceTokenizer(str(ASSETS / "vocab.txt")).save(str(folder / "tokenizer.json"))
    opened = open_encoder(str(folder), threads=1)
    texts = ["Where is my card?", "word " * 1_000]
    assert np.array_equal(opened.encode(texts), shipped_encoder().encode(texts))
    assert opened.name.startswith("onnx:")
    assert open_encoder(str(folder), threads=1).name == opened.name


def test_a_folder_without_an_encoder_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=f"no encoder in '{place}'.*tokenizer.json"):
            open_encoder(str(place))

"""Sentence encoders: the one that ships with the package, and any ONNX encoder a user names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stillhouse.core.errors import ConfigError
from stillhouse.core.ports import Encoder

Vectors = npt.NDArray[np.float32]
BATCH_TOKENS = 1024
SHIPPED = "minilm-l6-static-int8-v1"


class OnnxEncoder:
    """An ONNX model over token numbers; texts of one token count are encoded together.

    Without padding there is no mask to get wrong, and a text's vector does not depend on its
    neighbours. A model that gives one vector per token is averaged over its tokens.
    """

    def __init__(
        self, name: str, model: Path, numbers: Callable[[str], list[int]], threads: int = 0
    ) -> None:
        """Open a model file; `threads` 0 takes every core."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._numbers = numbers
        self._name = name
        self._dimension: int = self._run(np.array([numbers("a")])).shape[1]

    @property
    def name(self) -> str:
        """Name and version of the weights: part of every cache key."""
        return self._name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts into an array of shape [len(texts), dimension]."""
        vectors = np.empty((len(texts), self._dimension), dtype=np.float32)
        for rows, numbers in _batches([self._numbers(text) for text in texts]):
            vectors[rows] = self._run(numbers)
        return vectors

    def _run(self, numbers: npt.NDArray[np.int64]) -> Vectors:
        feeds = {
            "input_ids": numbers,
            "attention_mask": np.ones_like(numbers),
            "token_type_ids": np.zeros_like(numbers),
            "position_ids": np.arange(numbers.shape[1]),
        }
        given = {name: array for name, array in feeds.items() if name in self._inputs}
        vectors = cast(Vectors, self._session.run(None, given)[0])
        if vectors.ndim == 3:
            vectors = vectors.mean(axis=1)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _batches(numbers: list[list[int]]) -> Iterator[tuple[list[int], npt.NDArray[np.int64]]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, found in enumerate(numbers):
        by_length[len(found)].append(row)
    for length, rows in by_length.items():
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield chosen, np.array([numbers[row] for row in chosen], dtype=np.int64)


@lru_cache(maxsize=2)
def shipped_encoder(threads: int = 0) -> Encoder:
    """The encoder in the package: MiniLM-L6 with static vectors, 1,792 numbers a text."""
    from stillhouse.students.wordpiece import WordPiece

    assets = files("stillhouse.students") / "assets"
    with as_file(assets / "vocab.txt") as pieces, as_file(assets / "minilm_l6.onnx") as model:
        return OnnxEncoder(SHIPPED, model, WordPiece.read(pieces).numbers, threads)


def open_encoder(name: str, threads: int = 0) -> Encoder:
    """Open the encoder that a user or a student names: the shipped one, a folder, `hf:ORG/NAME`.

    A folder holds `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json`, as sentence encoders
    on model hubs do. A student names its encoder `onnx:DIGEST@PLACE`: other weights in that place
    are an error, because its certificate is about these. Folders and `hf:` need the extra
    `stillhouse[encoders]`; `hf:` fetches once and then reads from the local cache.
    """
    if name in ("", SHIPPED):
        return shipped_encoder(threads)
    wanted, _, place = name.rpartition("@") if name.startswith("onnx:") else ("", "", name)
    folder = _fetched(place.removeprefix("hf:")) if place.startswith("hf:") else Path(place)
    models = [m for m in (folder / "model.onnx", folder / "onnx" / "model.onnx") if m.is_file()]
    tokenizer = folder / "tokenizer.json"
    if not models or not tokenizer.is_file():
        raise ConfigError(
            f"no encoder in {place!r}: a folder with model.onnx (or onnx/model.onnx) and "
            f"tokenizer.json is needed; leave --encoder out for the shipped {SHIPPED}"
        )
    found = f"onnx:{_digest(models[0])}"
    if wanted not in ("", found):
        raise ConfigError(
            f"the encoder in {place!r} is {found}, and the student was made with {wanted}; put the "
            "old one back, or distil again"
        )
    return OnnxEncoder(f"{found}@{place}", models[0], _tokenizer(tokenizer), threads)


@lru_cache(maxsize=4)
def one_thread_encoder(name: str) -> Encoder:
    """The encoder that students name, opened once for all of them, and held to one thread."""
    return open_encoder(name, threads=1)


def _tokenizer(path: Path) -> Callable[[str], list[int]]:
    try:
        from tokenizers import Tokenizer
    except ImportError as missing:
        raise ConfigError(
            "this encoder needs the extra: pip install 'stillhouse[encoders]'"
        ) from missing
    tokenizer: Any = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return lambda text: cast(list[int], tokenizer.encode(text).ids)


def _fetched(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as missing:
        raise ConfigError("hf: needs the extra: pip install 'stillhouse[encoders]'") from missing
    wanted = ["model.onnx", "onnx/model.onnx", "tokenizer.json"]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except Exception as failed:  # the hub's client raises a dozen unrelated kinds
        raise ConfigError(
            f"the encoder {repository!r} could not be fetched ({type(failed).__name__}); "
            "name a local folder instead"
        ) from failed


def _digest(model: Path) -> str:
    import hashlib

    with model.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:16]

"""How a student is written down: named arrays and a JSON header in one npz, never a pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from stillhouse.core.errors import StoreError

FORMAT = 1
Arrays = Mapping[str, npt.NDArray[Any]]


def write(header: Mapping[str, object], arrays: Arrays) -> bytes:
    """Write a header and arrays as bytes; the same content gives the same bytes."""
    text = orjson.dumps({"format": FORMAT, **header}, option=orjson.OPT_SORT_KEYS)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=np.frombuffer(text, dtype=np.uint8), **arrays)
    return buffer.getvalue()


def read(artefact: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read what `write` wrote; anything else is an error in one sentence."""
    try:
        with np.load(io.BytesIO(artefact), allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        header: dict[str, Any] = orjson.loads(arrays.pop("header").tobytes())
        form = header.get("format")
    except Exception as broken:  # the readers of zip and npy raise a dozen unrelated kinds
        raise StoreError(
            f"these {len(artefact):,} bytes are no student or a damaged one; distil again"
        ) from broken
    if form != FORMAT:
        raise StoreError(
            f"the student has format {form}, this version reads {FORMAT}; "
            "upgrade stillhouse or distil again"
        )
    return header, arrays


def packed(strings: list[str]) -> npt.NDArray[np.uint8]:
    """Strings without line breaks as one byte array."""
    return np.frombuffer("\n".join(strings).encode("utf-8"), dtype=np.uint8)


def unpacked(array: npt.NDArray[np.uint8]) -> list[str]:
    """The strings that `packed` packed."""
    text = array.tobytes().decode("utf-8")
    return text.split("\n") if text else []

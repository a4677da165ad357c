"""Groups texts that say nearly the same, so that no near copy of a training row certifies it.

MinHash over runs of five bytes with banding (Broder 1997): texts whose runs overlap by about
four fifths fall into one group. Everything is vectorised over the whole corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUN = 5
HASHES, BAND = 64, 4
ALIKE = 0.8
_MIX = np.uint64(0x9E3779B97F4A7C15)


def near_duplicate_groups(texts: Sequence[str]) -> list[int]:
    """Number the groups of near duplicates; every text gets its group's number.

    Case and spacing do not count. Equal texts always share a group; texts under five bytes
    share one only when equal.

    >>> near_duplicate_groups(["Where is my card?", "where  is my card?", "I lost my phone"])
    [0, 0, 1]
    """
    plain = [" ".join(text.lower().split()) for text in texts]
    first: dict[str, int] = {}
    distinct = [first.setdefault(text, len(first)) for text in plain]
    parent = _joined(_signatures([text.encode("utf-8") for text in first]))
    roots = [root(parent, number) for number in distinct]
    order: dict[int, int] = {}
    return [order.setdefault(root, len(order)) for root in roots]


def _signatures(texts: list[bytes]) -> npt.NDArray[np.uint64]:
    """The least hash of a text's runs under each of 64 hash functions: shape [texts, 64]."""
    padded = [text.ljust(RUN, b"\0") for text in texts]
    data = np.frombuffer(b"".join(padded), dtype=np.uint8).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    if not len(lengths):
        return np.zeros((0, HASHES), dtype=np.uint64)
    runs = np.zeros(len(data) - RUN + 1, dtype=np.uint64)
    for place in range(RUN):
        runs = runs * np.uint64(257) + data[place : place + len(runs)]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    # A run that crosses into the next text belongs to neither.
    within = np.arange(len(data)) - np.repeat(starts, lengths)
    inside = (within <= np.repeat(lengths, lengths) - RUN)[: len(runs)]
    kept = runs[inside]
    firsts = np.concatenate([[0], np.cumsum(lengths - RUN + 1)[:-1]])
    signatures = np.empty((len(texts), HASHES), dtype=np.uint64)
    for number in range(HASHES):
        mixed = (kept + np.uint64(number + 1)) * _MIX
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9) + np.uint64(2 * number)
        mixed ^= mixed >> np.uint64(32)
        signatures[:, number] = np.minimum.reduceat(mixed, firsts)
    return signatures


def _joined(signatures: npt.NDArray[np.uint64]) -> list[int]:
    """Union of texts that share a band and whose signatures agree on four fifths."""
    parent = list(range(len(signatures)))
    for start in range(0, HASHES, BAND):
        band = np.ascontiguousarray(signatures[:, start : start + BAND])
        keys = band.view(np.dtype((np.void, band.dtype.itemsize * BAND))).ravel()
        _, bucket = np.unique(keys, return_inverse=True)
        order = np.argsort(bucket, kind="stable")
        same = np.flatnonzero(bucket[order][1:] == bucket[order][:-1])
        for left, right in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
            a, b = root(parent, left), root(parent, right)
            if a != b and (signatures[left] == signatures[right]).mean() >= ALIKE:
                parent[max(a, b)] = min(a, b)
    return parent


def root(parent: list[int], number: int) -> int:
    """The first member of a number's group in a union-find forest; shortens the way to it."""
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number

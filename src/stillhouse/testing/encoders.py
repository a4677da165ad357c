"""What every encoder must do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stillhouse.core.ports import Encoder
from stillhouse.testing.odd import ODD_TEXTS

ROUNDING = 1e-6
"""Sums of another order differ in the last bit of a float32, and by no more than this."""
TEXTS = (
    "where is my card",
    "where is my new card",
    "I lost my phone",
    "I lost my phone yesterday and would like to know who could have used it since",
    *ODD_TEXTS,
)


def check_encoder(make: Callable[[], Encoder]) -> None:
    """Check an encoder: shapes, finite numbers, the same vector in any batch and when opened again.

    `make` opens the encoder; what it returns twice must agree. Raises AssertionError.
    """
    encoder = make()
    vectors = encoder.encode(TEXTS)
    assert encoder.name, "an encoder needs a name: it is part of every cache key"
    assert vectors.shape == (len(TEXTS), encoder.dimension), f"the shape is {vectors.shape}"
    assert vectors.dtype == np.float32, f"vectors are {vectors.dtype}, not float32"
    assert encoder.encode([]).shape == (0, encoder.dimension), "no texts give no vectors"
    assert np.isfinite(vectors).all(), "a vector holds a number that is not finite"
    assert len(np.unique(vectors[:4], axis=0)) == 4, "texts of other words share a vector"
    for place, text in enumerate(TEXTS):
        apart = np.abs(encoder.encode([text])[0] - vectors[place]).max()
        assert apart <= ROUNDING, f"{text[:40]!r} alone is off by {apart} from its batch"
    turned = encoder.encode(TEXTS[::-1])[::-1]
    assert np.abs(turned - vectors).max() <= ROUNDING, "the order of texts changes vectors"
    again = make()
    assert (again.name, again.dimension) == (encoder.name, encoder.dimension), "opened as another"
    assert np.array_equal(again.encode(TEXTS), vectors), "opened again, it gives other vectors"

"""Vectors of texts, kept between runs in a file of their own that may be deleted at any time."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Self

from stillhouse.store.sqlite_file import SqliteDatabase

APPLICATION_ID = 0x5374456E  # "StEn"

MIGRATIONS = (
    """
    CREATE TABLE vectors (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        vector BLOB NOT NULL
    ) STRICT;
    """,
)

ASKED_AT_ONCE = 500


class Encodings:
    """A cache beside a database: (encoder name, text) to the bytes of its vector.

    The bytes are the caller's: float32 or float16, whatever the encoder of that name gives.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Encodings(Path(folder) / "stillhouse.db") as cache:
    ...     cache.put("some-encoder 1.0", ["hello"], [b"\\x00\\x3c"])
    ...     cache.get("some-encoder 1.0", ["hello", "goodbye"])
    [b'\\x00<', None]
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".encodings")
        self._database = SqliteDatabase(path, APPLICATION_ID, MIGRATIONS)

    def get(self, encoder: str, texts: Sequence[str]) -> list[bytes | None]:
        """The vector of each text, None where it was never kept."""
        keys = [_key(encoder, text) for text in texts]
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), ASKED_AT_ONCE):
            some = keys[start : start + ASKED_AT_ONCE]
            holes = ", ".join("?" * len(some))
            found.update(
                self._database.rows(
                    f"SELECT key, vector FROM vectors WHERE key IN ({holes})", *some
                )
            )
        return [found.get(key) for key in keys]

    def put(self, encoder: str, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        """Keep the vectors of texts, in one transaction; a text that is kept already stays."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO vectors (key, vector) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
                zip((_key(encoder, text) for text in texts), vectors, strict=True),
            )

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(encoder: str, text: str) -> bytes:
    return blake2b(f"{encoder}\0{text}".encode(), digest_size=16).digest()

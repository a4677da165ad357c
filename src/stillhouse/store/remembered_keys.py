"""The virtual keys as they were last read, in a file: workers start while their database is away.

The file holds what the database holds of a key: a salt and a digest, never a token.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import get_ident

import msgspec

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Keyring
from stillhouse.core.quotas import VirtualKey

FILE = "keys.json"
"""Its name in the folder of the journal."""

Keys = tuple[VirtualKey, ...]


class RememberedKeys:
    """A Keyring that remembers what it said last.

    >>> from tempfile import TemporaryDirectory
    >>> class Away:
    ...     def keys_version(self):
    ...         raise StoreError("the database is away")
    ...     keys = keys_version
    >>> class Here:
    ...     def keys_version(self):
    ...         return 1
    ...     def keys(self):
    ...         return (VirtualKey("k1", "Rosa", b"salt", b"digest"),)
    >>> with TemporaryDirectory() as folder:
    ...     before = RememberedKeys(Here(), Path(folder)).known()
    ...     version, keys = RememberedKeys(Away(), Path(folder)).known()
    >>> before[0], version, keys == before[1]
    (1, None, True)
    """

    def __init__(self, keyring: Keyring, folder: Path) -> None:
        self._keyring = keyring
        self._file = folder / FILE

    def keys_version(self) -> int:
        """How often keys were changed."""
        return self._keyring.keys_version()

    def keys(self) -> Keys:
        """All keys, revoked ones included."""
        keys = self._keyring.keys()
        self._write(keys)
        return keys

    def known(self) -> tuple[int | None, Keys]:
        """Version and keys; while the database is away those last read, without a version.

        Raises StoreError where it is away and nothing was ever read.
        """
        try:
            version = self.keys_version()
            return version, self.keys()
        except StoreError:
            try:
                return None, msgspec.json.decode(self._file.read_bytes(), type=Keys)
            except (OSError, msgspec.MsgspecError):
                pass
            raise

    def _write(self, keys: Keys) -> None:
        """Remember; a full disk costs the memory, not the service."""
        new = self._file.with_name(f".{FILE}.{os.getpid()}.{get_ident()}")
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, msgspec.json.encode(keys))
            finally:
                os.close(file)
            new.replace(self._file)

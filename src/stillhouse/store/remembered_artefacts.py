"""Artefacts in a folder, as they were once read: students answer while their database is away."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import get_ident

from stillhouse.core.errors import StoreError

MOST_FILES = 32
_DIGEST = re.compile(r"[0-9a-f]{32}")


class RememberedArtefacts:
    """Reads artefacts, and remembers each in a file that is named by its digest.

    What is read from a file is checked by its hash: a damaged one is fetched again.

    >>> from tempfile import TemporaryDirectory
    >>> asked = []
    >>> def fetch(digest):
    ...     asked.append(digest)
    ...     return b"body"
    >>> digest = blake2b(b"body", digest_size=16).hexdigest()
    >>> with TemporaryDirectory() as folder:
    ...     artefacts = RememberedArtefacts(fetch, Path(folder))
    ...     artefacts.get(digest), artefacts.get(digest), len(asked)
    (b'body', b'body', 1)
    """

    def __init__(self, fetch: Callable[[str], bytes], folder: Path) -> None:
        """Take who has the artefacts (StoreError where it has not), and the folder."""
        self._fetch = fetch
        self._folder = folder

    def get(self, digest: str) -> bytes:
        """The artefact of this digest. Raises StoreError where nobody has it."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest[:40]!r} is no digest; name an artefact by its 32 hex digits")
        file = self._folder / digest
        with suppress(OSError):
            body = file.read_bytes()
            if blake2b(body, digest_size=16).hexdigest() == digest:
                file.touch()  # the last used ones stay
                return body
        body = self._fetch(digest)
        self._write(file, body)
        return body

    def _write(self, file: Path, body: bytes) -> None:
        """Remember; a full disk costs the memory, not the service."""
        new = file.with_name(f".{file.name}.{os.getpid()}.{get_ident()}")
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb") as out:
                    out.write(body)
                new.replace(file)
            finally:
                new.unlink(missing_ok=True)
            self._forget()

    def _forget(self) -> None:
        """Keep the last used ones."""
        known = [file for file in self._folder.iterdir() if _DIGEST.fullmatch(file.name)]
        known.sort(key=lambda file: file.stat().st_mtime_ns)
        for file in known[:-MOST_FILES]:
            file.unlink()

from __future__ import annotations

import stat
from hashlib import blake2b
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.store.remembered_artefacts import MOST_FILES, RememberedArtefacts


class Books:
    """A database with artefacts, which can be away."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = {digest_of(body): body for body in bodies}
        self.away = False

    def fetch(self, digest: str) -> bytes:
        if self.away or digest not in self.bodies:
            raise StoreError("the database is away")
        return self.bodies[digest]


def digest_of(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()


def test_what_was_read_once_is_there_while_the_database_is_away(tmp_path: Path) -> None:
    books = Books(b"one")
    assert RememberedArtefacts(books.fetch, tmp_path / "new").get(digest_of(b"one")) == b"one"
    books.away = True
    assert RememberedArtefacts(books.fetch, tmp_path / "new").get(digest_of(b"one")) == b"one"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / digest_of(b"one")).stat().st_mode) == 0o600


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    books = Books(b"one")
    artefacts = RememberedArtefacts(books.fetch, tmp_path)
    artefacts.get(digest_of(b"one"))
    (tmp_path / digest_of(b"one")).write_bytes(b"other")
    assert artefacts.get(digest_of(b"one")) == b"one"
    assert (tmp_path / digest_of(b"one")).read_bytes() == b"one"


def test_what_nobody_has_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is away"):
        RememberedArtefacts(Books().fetch, tmp_path).get(digest_of(b"one"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../keys.json", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_what_is_no_digest_names_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="is no digest"):
        RememberedArtefacts(lambda digest: b"", tmp_path).get(name)


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    artefacts = RememberedArtefacts(Books(b"one").fetch, tmp_path / "file")
    assert artefacts.get(digest_of(b"one")) == b"one"


def test_so_many_files_are_kept(tmp_path: Path) -> None:
    bodies = [b"%d" % number for number in range(MOST_FILES + 3)]
    artefacts = RememberedArtefacts(Books(*bodies).fetch, tmp_path)
    for body in bodies:
        artefacts.get(digest_of(body))
    assert len(list(tmp_path.iterdir())) == MOST_FILES
    assert (tmp_path / digest_of(bodies[-1])).exists()

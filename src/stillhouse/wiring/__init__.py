"""Which adapter stands behind which Protocol: the only file that knows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from stillhouse import logs
from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.ports import Encoder, Recipe, Student
from stillhouse.core.traffic import Attempt
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.names import host_from_row
from stillhouse.ledger.prices import PRICED_LEAVES, Price, price_from_row
from stillhouse.store import opening
from stillhouse.store.encodings import Encodings
from stillhouse.store.face import Store

# Students stand on scipy and scikit-learn, which take seconds to load: only verbs that meet a
# student pay for them.
if TYPE_CHECKING:
    from stillhouse.flows.workbench import House
    from stillhouse.students.cached import CachedEncoder


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def wall_seconds(self) -> float:
        """Seconds of a clock that only goes forward."""
        return time.perf_counter()

    def cpu_seconds(self) -> float:
        """Seconds of all cores that this process has used."""
        return time.process_time()


class EncodingNotes:
    """Notes of interrupted runs, kept in the disposable file of encodings."""

    def __init__(self, cache: Encodings) -> None:
        self._cache = cache

    def get(self, key: str) -> bytes | None:
        """What was kept under a key."""
        return self._cache.get("note", [key])[0]

    def put(self, key: str, body: bytes) -> None:
        """Keep bytes under a key."""
        self._cache.put("note", [key], [body])


@contextmanager
def encodings(place: str) -> Iterator[Encodings]:
    """The cache of encodings beside the books at a place."""
    with Encodings(opening.beside(place)) as found:
        yield found


def recipes(encoder: Encoder) -> dict[str, Recipe]:
    """The ladder, cheapest first."""
    from stillhouse.students.blend import BlendRecipe
    from stillhouse.students.constant import ConstantRecipe
    from stillhouse.students.embedding import EmbeddingRecipe
    from stillhouse.students.lexical import LexicalRecipe

    ladder: list[Recipe] = [
        ConstantRecipe(),
        LexicalRecipe(),
        EmbeddingRecipe(encoder),
        BlendRecipe(),
    ]
    return {recipe.name: recipe for recipe in ladder}


def cached_encoder(
    name: str, cache_of: Encodings, progress: Callable[[int, int], None]
) -> CachedEncoder:
    """An encoder by name, with the cache in front."""
    from stillhouse.students.cached import CachedEncoder
    from stillhouse.students.encoders import open_encoder

    return CachedEncoder(open_encoder(name), cache_of, progress)


def student_reader(
    cache_of: Encodings | None, progress: Callable[[int, int], None] = lambda done, todo: None
) -> Callable[[bytes], Student]:
    """Reads students whose encoders are opened once and, with a cache, encode each text once."""
    from stillhouse.students.encoders import open_encoder
    from stillhouse.students.shelf import read_student

    @cache
    def encoder(name: str) -> Encoder:
        if cache_of is None:
            return open_encoder(name)
        return cached_encoder(name, cache_of, progress)

    return lambda artefact: read_student(artefact, encoder)


def distil_house(
    store: Store, cache_of: Encodings, say: Callable[[str], None], encoder: str = ""
) -> House:
    """What a distillation needs, from this machine."""
    from stillhouse.flows.workbench import House
    from stillhouse.students.encoders import open_encoder
    from stillhouse.students.shelf import read_student

    def progress(done: int, todo: int) -> None:
        say(f"encoding {done:,} of {todo:,} texts")

    def reopened(name: str) -> Encoder:
        return ladder_encoder if name == ladder_encoder.name else open_encoder(name)

    ladder_encoder = cached_encoder(encoder, cache_of, progress)
    return House(
        bench=store,
        notes=EncodingNotes(cache_of),
        clock=SystemClock(),
        recipes=recipes(ladder_encoder),
        read_student=lambda artefact: read_student(artefact, reopened),
        say=say,
        encoder=ladder_encoder.name,
    )


def price_book(own: Path | None, now_us: int, free: Iterable[str] = ()) -> PriceBook:
    """The catalogue's prices, those that ship with the package, and a team's own dated file.

    All models of the hosts in `free` cost nothing: own machines, whose cost stands elsewhere.
    """
    from stillhouse.catalogues import genai, yaml_book

    # What ships fills gaps of the catalogue; only a team's own file goes before both.
    shipped = ({**row, "own": False} for row in yaml_book.price_rows(shipped_prices()))
    theirs = yaml_book.price_rows(own) if own is not None else []
    prices = [price_from_row(row, now_us) for row in (*genai.price_rows(), *shipped, *theirs)]
    nothing = dict.fromkeys(PRICED_LEAVES, 0)
    prices += [Price(host, "*", nothing, names=("*",), own=True) for host in free]
    return PriceBook(prices, [host_from_row(row) for row in genai.host_rows()])


def price_finder(own: Path | None = None) -> Callable[[str, Attempt], Price | None]:
    """Finds what another model would charge for an attempt's tokens now."""
    now_us = SystemClock().now_us()
    book = price_book(own, now_us)

    def find(model: str, attempt: Attempt) -> Price | None:
        return book.find(model, attempt.host, now_us)

    return find


def shipped_prices() -> Path:
    """Dated prices that the catalogue lacks, each with its source."""
    return Path(__file__).parents[1] / "catalogues" / "prices.yaml"


def open_store(place: str) -> Store:
    """The books at a path or a DSN, made where there are none."""
    return opening.open_store(place)


def existing_store(place: str) -> Store:
    """The books at a path or a DSN; StoreError where there are none."""
    return opening.existing_store(place)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log whose format is known."""

    path: Path
    format: logs.LogFormat

    def fingerprint(self) -> str:
        """The hash of the file's bytes."""
        return logs.fingerprint(self.path)

    def open(self, start: tuple[int, int]) -> logs.LogReader:
        """The rows after so many bytes and lines."""
        return logs.read(self.path, self.format, logs.Position(*start))


def recognise_logs(
    paths: Sequence[Path], mapping: Mapping[str, str], constants: Mapping[str, str]
) -> list[LogFile]:
    """Tell the format of every file; the input of a batch goes with its output.

    Raises CallerError as soon as one of them cannot be imported.
    """
    found = [LogFile(path, logs.detect(path, mapping, constants, paths)) for path in paths]
    inputs = {file.format.companion for file in found}
    for file in found:
        if not file.format.has_answers and file.path not in inputs:
            raise CallerError(
                f"{file.path} holds the requests of a batch and no answers; name the batch's "
                "output file with it"
            )
    return [file for file in found if file.format.has_answers]


class RowsAside:
    """Rows of texts in a file, read back in their order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def append(self, row: tuple[str, str, str], /) -> None:
        """Keep a row."""
        self._file.write(orjson.dumps(row) + b"\n")

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        self._file.seek(0)
        return (tuple(orjson.loads(line)) for line in self._file)


@contextmanager
def rows_aside() -> Iterator[RowsAside]:
    """Room for rows outside of memory, emptied at the end."""
    try:
        with tempfile.TemporaryFile() as file:
            yield RowsAside(file)
    except OSError as error:
        raise StoreError(
            f"rows cannot be set aside in {tempfile.gettempdir()} ({error.strerror}); free some "
            "space there, or name another directory in TMPDIR"
        ) from error

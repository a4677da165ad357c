"""The bytes of a journal outlive the definitions of what stands in it."""

from __future__ import annotations

import msgspec
import pytest

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Ended, Entry, Fate, Started
from stillhouse.core.money import Paid
from stillhouse.core.serving import Consultation
from stillhouse.core.traffic import Attempt, AttemptKind, Evidence, Tags, Usage
from stillhouse.store.journal_frames import HEADER, Frame, Kind, decoded, framed, frames

STARTED = Started(
    "x1",
    Attempt("a1", "m", 1_790_000_000_000_000, "h"),
    "chat",
    "up",
    Tags("t", "é", "c", "f", "eu"),
    "k",
    "p",
    "{}",
    2,
    50,
    ("k:x",),
    "messages",
    Consultation("t", 1, "a", 0.75, 0.5, "student", True, "certified", "", "", "k1"),
)
USAGE, REPORTED = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 300), Paid(7 * 10**10, "EUR")
RETRY, ESTIMATED = AttemptKind.RETRY, Evidence.ESTIMATED
COMPUTED, UNPRICED = CostSource.COMPUTED, CostSource.UNPRICED
ENDED = Ended(
    "x1",
    Attempt("a1", "m", 5, "h", RETRY, USAGE, 12.5, REPORTED, False, "flex", True, "eu", ESTIMATED),
    (
        Charge(
            "c1",
            "a1",
            "input_tokens",
            300,
            "tokens",
            Paid(1),
            COMPUTED,
            Evidence.DERIVED,
            "p",
            "c0",
        ),
        Charge("c2", "a1", "requests", 1, "requests", None, UNPRICED, Evidence.REPORTED),
    ),
    Fate.STATUS,
    500,
    1.25,
    "{}",
    "é",
    True,
    "e",
    False,
    9,
    "b",
    "up",
)

# Written when all of these were tuples with names and frozen dataclasses.
STARTED_BYTES = bytes.fromhex(
    "9da278319da26131a16dcf00065bfeda25e000a168a774656163686572c0c0c0c3a0c2a0a87265706f72746564"
    "a463686174a2757085a47461736ba174a47465616da2c3a9a8637573746f6d6572a163a766656174757265a166"
    "a6726567696f6ea26575a16ba170a27b7d023291a36b3a78a86d657373616765739ba17401a161cb3fe8000000"
    "000000cb3fe0000000000000a773747564656e74c3a9636572746966696564a0a0a26b31"
)
ENDED_BYTES = bytes.fromhex(
    "9ea278319da26131a16d05a168a572657472798cac696e7075745f746f6b656e7301b163616368655f72656164"
    "5f746f6b656e7302b563616368655f77726974655f356d5f746f6b656e7303b563616368655f77726974655f31"
    "685f746f6b656e7304b2696e7075745f617564696f5f746f6b656e7305b763616368655f617564696f5f726561"
    "645f746f6b656e7306b2696e7075745f696d6167655f746f6b656e7307ad6f75747075745f746f6b656e7308b0"
    "726561736f6e696e675f746f6b656e7309b36f75747075745f617564696f5f746f6b656e730ab36f7574707574"
    "5f696d6167655f746f6b656e730bac7765625f7365617263686573cd012ccb402900000000000082a47069636f"
    "cf000000104c533c00a863757272656e6379a3455552c2a4666c6578c3a26575a9657374696d61746564929aa2"
    "6331a26131ac696e7075745f746f6b656e73cd012ca6746f6b656e7382a47069636f01a863757272656e6379a3"
    "555344a8636f6d7075746564a764657269766564a170a263309aa26332a26131a8726571756573747301a87265"
    "717565737473c0a8756e707269636564a87265706f72746564a0a0a6737461747573cd01f4cb3ff40000000000"
    "00a27b7da2c3a9c3a165c209a162a27570"
)

KEPT = [(Kind.STARTED, STARTED, STARTED_BYTES), (Kind.ENDED, ENDED, ENDED_BYTES)]


@pytest.mark.parametrize(("kind", "entry", "payload"), KEPT, ids=["started", "ended"])
def test_an_entry_is_written_as_ever_and_read_again(
    kind: int, entry: Entry, payload: bytes
) -> None:
    frame = framed(kind, entry)
    assert frame[HEADER.size :] == payload
    assert [decoded(one) for one in frames(frame, 0)] == [entry]


@pytest.mark.parametrize(("kind", "entry", "payload"), KEPT, ids=["started", "ended"])
def test_an_entry_of_an_earlier_version_is_read_with_what_is_usual_for_the_rest(
    kind: int, entry: Entry, payload: bytes
) -> None:
    few = 5 if kind == Kind.STARTED else 4
    short = msgspec.msgpack.encode(msgspec.msgpack.decode(payload)[:few])
    fields = entry.__struct_fields__[:few]
    assert decoded(Frame(0, 0, kind, short)) == type(entry)(
        **{name: getattr(entry, name) for name in fields}
    )


@pytest.mark.parametrize(("kind", "entry", "payload"), KEPT, ids=["started", "ended"])
def test_an_entry_with_more_in_it_than_this_version_knows_is_not_read(
    kind: int, entry: Entry, payload: bytes
) -> None:
    whole = msgspec.msgpack.decode(payload)
    attempt = [*whole[1], "more"]
    for odd in ([*whole, "more"], [whole[0], attempt, *whole[2:]], whole[:3]):
        with pytest.raises(ValueError, match=r"Expected `array` of at (most|least) length"):
            decoded(Frame(0, 0, kind, msgspec.msgpack.encode(odd)))


def test_counts_that_this_version_does_not_know_are_passed_over() -> None:
    whole = msgspec.msgpack.decode(ENDED_BYTES)
    whole[1][5] = {"input_tokens": 3, "thoughts": 4}
    found = decoded(Frame(0, 0, Kind.ENDED, msgspec.msgpack.encode(whole)))
    assert isinstance(found, Ended)
    assert found.attempt.usage == Usage(input_tokens=3)

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.quotas import VirtualKey
from stillhouse.gateway.keys import KeyRing, digest_of, follow, make_key, new_token

ROSA, ROSAS_TOKEN = make_key("Rosa", created_us=0)
TOM, TOMS_TOKEN = make_key("Tom", created_us=0)


def test_a_token_opens_as_text_and_as_bytes_and_again_from_memory() -> None:
    ring = KeyRing([ROSA, TOM])
    for _ in range(2):
        assert ring.check(ROSAS_TOKEN, 1) is ROSA
        assert ring.check(TOMS_TOKEN.encode(), 1) is TOM


def test_nothing_that_is_kept_of_a_key_opens_it() -> None:
    ring = KeyRing([ROSA])
    kept = (ROSA.digest, ROSA.digest.hex(), f"sh-{ROSA.key_id}-{ROSA.digest.hex()}", ROSA.key_id)
    secret = ROSAS_TOKEN.rpartition("-")[2]
    assert ring.check(ROSAS_TOKEN, 1) is ROSA
    for wrong in (
        *kept,
        secret,
        f"sh-{TOM.key_id}-{secret}",
        f"xx-{ROSA.key_id}-{secret}",
        "",
        b"",
    ):
        assert ring.check(wrong, 1) is None
    assert ROSAS_TOKEN not in repr(ROSA)


@given(cut=st.integers(0, len(ROSAS_TOKEN) - 1), tail=st.text(max_size=60))
def test_only_the_whole_token_opens(cut: int, tail: str) -> None:
    ring = KeyRing([ROSA])
    ring.check(ROSAS_TOKEN, 1)
    guess = ROSAS_TOKEN[:cut] + tail
    assert (ring.check(guess, 1) is ROSA) == (guess == ROSAS_TOKEN)
    assert ring.check(ROSAS_TOKEN + tail, 1) is (None if tail else ROSA)


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_check(token: bytes) -> None:
    assert KeyRing([ROSA]).check(token, 1) is None


def test_two_keys_never_share_a_token_a_salt_or_an_id() -> None:
    made = [make_key("n", created_us=0) for _ in range(50)]
    assert len({token for _, token in made}) == 50
    assert len({key.salt for key, _ in made}) == 50
    assert len({key.key_id for key, _ in made}) == 50


@given(st.binary(min_size=32, max_size=32))
def test_every_secret_has_a_token_of_its_own_and_of_one_length(secret: bytes) -> None:
    token = new_token("k", secret)
    assert re.fullmatch(r"sh-k-[0-9A-Za-z]{43}", token)
    number = 0
    for digit in token.rpartition("-")[2]:
        place = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(digit)
        number = number * 62 + place
    assert number.to_bytes(32, "big") == secret


def test_the_same_token_under_another_salt_has_another_digest() -> None:
    assert digest_of(b"token", bytes(16)) != digest_of(b"token", bytes(15) + b"\1")


def test_a_key_opens_until_it_expires_or_is_revoked() -> None:
    ring = KeyRing([replace(ROSA, expires_us=10), replace(TOM, revoked_us=10)])
    for token in (ROSAS_TOKEN, TOMS_TOKEN):
        assert ring.check(token, 9) is not None
        assert ring.check(token, 10) is None
        assert ring.check(token, 11) is None


def test_keys_that_are_replaced_open_nothing_from_memory() -> None:
    ring = KeyRing([ROSA])
    assert ring.check(ROSAS_TOKEN, 1) is ROSA
    ring.replace([TOM])
    assert ring.check(ROSAS_TOKEN, 1) is None
    assert ring.check(TOMS_TOKEN, 1) is TOM
    assert len(ring) == 1


def test_two_keys_with_one_id_are_refused() -> None:
    with pytest.raises(CallerError, match="two keys have the id"):
        KeyRing([ROSA, ROSA, replace(TOM, key_id=ROSA.key_id)])


class Kept:
    """Scripted keys: each question of the version moves one step on; None is a store that fails."""

    def __init__(self, *steps: tuple[VirtualKey, ...] | None) -> None:
        self._steps = steps
        self._now = -1
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def keys_version(self) -> int:
        self._now += 1
        if self._now >= len(self._steps):
            self._loop.call_soon_threadsafe(self.done.set)
            self._now = len(self._steps) - 1
        kept = self._steps[self._now]
        if kept is None:
            raise StoreError("the store is away")
        return sum(step is not None and step != kept for step in self._steps[: self._now]) + 1

    def keys(self) -> tuple[VirtualKey, ...]:
        kept = self._steps[self._now]
        assert kept is not None
        return kept


def test_changes_of_keys_are_followed_once_each_and_a_store_that_is_away_changes_nothing() -> None:
    async def story() -> list[tuple[VirtualKey, ...]]:
        seen: list[tuple[VirtualKey, ...]] = []
        kept = Kept((ROSA,), (ROSA,), None, (ROSA,), (ROSA, TOM))
        task = asyncio.create_task(follow(kept, seen.append, pause=0))
        await kept.done.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert asyncio.run(story()) == [(ROSA,), (ROSA, TOM)]

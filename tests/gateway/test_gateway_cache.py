from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.flows.house import Remembered
from stillhouse.gateway.cache import Cache

OVERHEAD = 512


def answer(size: int = 100, model: str = "m") -> Remembered:
    return Remembered(200, [], (b"x" * size,), model, "acme", 1)


def test_an_answer_is_kept_until_its_time_is_over_and_no_longer() -> None:
    cache = Cache()
    cache.put(b"k", answer(), until=10.0)
    assert cache.get(b"k", 9.999) == answer()
    assert cache.get(b"k", 10.0) is None
    assert cache.get(b"k", 0.0) is None, "what was too old is gone for good"


def test_what_was_used_least_lately_makes_room() -> None:
    cache = Cache(most_bytes=3 * (100 + OVERHEAD))
    for key in (b"a", b"b", b"c"):
        cache.put(key, answer(), until=10.0)
    cache.get(b"a", 0.0)
    cache.put(b"d", answer(), until=10.0)
    assert [cache.get(key, 0.0) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_an_answer_larger_than_the_cache_is_not_kept_and_drives_nobody_out() -> None:
    cache = Cache(most_bytes=2000)
    cache.put(b"a", answer(), until=10.0)
    cache.put(b"b", answer(5000), until=10.0)
    assert cache.get(b"a", 0.0) is not None
    assert cache.get(b"b", 0.0) is None
    cache.put(b"a", answer(5000), until=10.0)
    assert cache.get(b"a", 0.0) is None, "the older answer under the same key is not given either"


def test_a_newer_answer_takes_the_place_of_an_older_one() -> None:
    cache = Cache()
    cache.put(b"a", answer(model="old"), until=5.0)
    cache.put(b"a", answer(model="new"), until=20.0)
    kept = cache.get(b"a", 10.0)
    assert kept is not None
    assert kept.model == "new"


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 900), st.integers(0, 20)), max_size=60
)


@given(STEPS, st.integers(0, 4000))
def test_it_never_holds_more_than_it_may_and_gives_what_was_put_last(
    steps: list[tuple[str, int, int]], most: int
) -> None:
    cache, put = Cache(most), dict[bytes, tuple[int, int]]()
    for now, (name, size, lasts) in enumerate(steps):
        key = name.encode()
        if lasts % 3:
            cache.put(key, answer(size), until=now + lasts)
            put[key] = (size, now + lasts)
        kept = [one for one in put if cache.get(one, now) is not None]
        assert sum(put[one][0] + OVERHEAD for one in kept) <= most
        for one in kept:
            assert cache.get(one, now) == answer(put[one][0])
            assert put[one][1] > now

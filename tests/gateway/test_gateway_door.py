from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.quotas import VirtualKey
from stillhouse.core.traffic import Tags
from stillhouse.gateway.door import LOOPBACK_NAMES, NOBODY, PASSED_ON, Door, MisdirectedError
from stillhouse.gateway.heads import Head
from stillhouse.gateway.keys import KeyRing, make_key

Headers = list[tuple[bytes, bytes]]

PLAIN, PLAIN_TOKEN = make_key("plain", 0)
RED, RED_TOKEN = make_key("red", 0, tags=Tags(team="red", feature="chat"))
EXPIRED, EXPIRED_TOKEN = make_key("old", 0, expires_us=10)
RING = KeyRing([PLAIN, RED, EXPIRED])


def door(*, is_open: bool = False, hosts: frozenset[str] | None = None) -> Door:
    return Door(RING, lambda: 1000, lambda: is_open, hosts)


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


FORMS = [
    lambda token: (b"authorization", b"Bearer " + token),
    lambda token: (b"authorization", b"bearer  " + token),
    lambda token: (b"x-api-key", token),
    lambda token: (b"api-key", token),
    lambda token: (b"x-stillhouse-key", token),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_taken_wherever_a_client_puts_it(form: object) -> None:
    assert callable(form)
    visitor = door().enter([form(PLAIN_TOKEN.encode())])
    assert visitor is not None
    assert (visitor.key, visitor.caller_key) == (PLAIN, "")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer("")],
        [bearer("sk-someone-elses")],
        [bearer(PLAIN_TOKEN[:-1])],
        [bearer(PLAIN_TOKEN + "x")],
        [bearer(PLAIN_TOKEN.upper())],
        [bearer("sh--")],
        [bearer("sh-" + "x" * 100_000)],
        [bearer(EXPIRED_TOKEN)],
        [(b"authorization", b"Basic " + PLAIN_TOKEN.encode())],
        [(b"x-stillhouse-key", b"sk-anything"), bearer(PLAIN_TOKEN)],
        [bearer("\xff\x00")],
    ],
)
def test_nobody_else_is_let_in(headers: Headers) -> None:
    assert door().enter(headers) is None


def test_a_callers_own_provider_key_comes_beside_ours_and_never_in_its_place() -> None:
    ours = (b"x-stillhouse-key", PLAIN_TOKEN.encode())
    visitor = door().enter([ours, bearer("sk-mine")])
    assert visitor is not None
    assert (visitor.key, visitor.caller_key) == (PLAIN, "sk-mine")
    assert door().enter([bearer("sk-mine")]) is None


@pytest.mark.parametrize("form", FORMS[:4])
def test_a_key_of_ours_is_never_taken_for_a_providers(form: object) -> None:
    assert callable(form)
    ours = (b"x-stillhouse-key", PLAIN_TOKEN.encode())
    visitor = door().enter([ours, form(RED_TOKEN.encode())])
    assert visitor is not None
    assert (visitor.key, visitor.caller_key) == (PLAIN, "")


def test_an_open_endpoint_lets_everybody_in_but_not_with_a_wrong_key_of_ours() -> None:
    anybody = door(is_open=True).enter([])
    with_key = door(is_open=True).enter([bearer("sk-mine")])
    assert anybody is not None
    assert with_key is not None
    assert (anybody.key, anybody.caller_key) == (NOBODY, "")
    assert (with_key.key, with_key.caller_key) == (NOBODY, "sk-mine")
    assert door(is_open=True).enter([bearer("sh-nobody-knows")]) is None


def same_head(headers: Headers) -> Head:
    return Head({}, [*headers, (b"content-length", b"1")])


def test_who_was_let_in_by_a_head_is_not_looked_at_again() -> None:
    entrance, headers = door(), [bearer(PLAIN_TOKEN)]
    head = same_head(headers)
    first = entrance.enter(headers, head)
    assert first is not None
    assert entrance.enter(headers, head) is first
    assert first == entrance.enter(headers)


OLD = replace(RED, expires_us=5)
LEFT = replace(RED, revoked_us=7, expires_us=9)
STEPS = st.one_of(
    st.tuples(st.just("keys"), st.sampled_from([(), (PLAIN,), (RED,), (OLD,), (LEFT, PLAIN)])),
    st.tuples(st.just("now"), st.integers(0, 10)),
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("call"), st.integers(0, 4)),
)


@given(st.lists(STEPS, max_size=30))
def test_a_head_opens_just_what_its_fields_would_open_now(steps: list[tuple[str, object]]) -> None:
    ring, now, is_open = KeyRing([PLAIN, RED]), [0], [False]
    entrance = Door(ring, lambda: now[0], lambda: is_open[0])
    callers: list[Headers] = [
        [bearer(PLAIN_TOKEN)],
        [bearer(RED_TOKEN), (b"x-stillhouse-students", b"Never")],
        [bearer("sk-mine")],
        [bearer("sk-mine"), (b"x-stillhouse-key", RED_TOKEN.encode())],
        [],
    ]
    known = [same_head(headers) for headers in callers]
    for what, value in [*steps, *(("call", number) for number in range(5))]:
        if what == "keys":
            ring.replace(value)  # type: ignore[arg-type]
        elif what == "now":
            now[0] = value  # type: ignore[call-overload]
        elif what == "open":
            is_open[0] = bool(value)
        else:
            headers, head = callers[value], known[value]  # type: ignore[call-overload]
            assert entrance.enter(headers, head) == entrance.enter(headers)


def test_a_keys_own_tags_hold_and_headers_name_the_rest() -> None:
    said = [
        (b"x-stillhouse-team", b"blue"),
        (b"x-stillhouse-customer", b"acme"),
        (b"x-stillhouse-task", b"triage"),
        (b"x-stillhouse-region", b"eu"),
        (b"x-stillhouse-feature", b"other"),
    ]
    red = door().enter([bearer(RED_TOKEN), *said])
    plain = door().enter([bearer(PLAIN_TOKEN), *said])
    assert red is not None
    assert plain is not None
    assert red.tags == Tags("triage", "red", "acme", "chat", "eu")
    assert plain.tags == Tags("triage", "blue", "acme", "other", "eu")


def test_tags_are_remembered_for_each_key_apart() -> None:
    entrance = door()
    said = [(b"x-stillhouse-team", b"blue")]
    for _ in range(2):
        red = entrance.enter([bearer(RED_TOKEN), *said])
        plain = entrance.enter([bearer(PLAIN_TOKEN), *said])
        assert red is not None
        assert plain is not None
        assert (red.tags.team, plain.tags.team) == ("red", "blue")


@given(st.binary(max_size=400))
def test_a_tag_is_short_and_printable_whatever_was_sent(value: bytes) -> None:
    visitor = door().enter([bearer(PLAIN_TOKEN), (b"x-stillhouse-customer", value)])
    assert visitor is not None
    assert visitor.tags.customer.isprintable()
    assert len(visitor.tags.customer) <= 128


def test_only_what_concerns_the_upstream_goes_on() -> None:
    sent = [
        bearer(PLAIN_TOKEN),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"x"),
        (b"openai-beta", b"y"),
        (b"idempotency-key", b"z"),
        (b"cookie", b"session=1"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"host", b"localhost"),
        (b"connection", b"upgrade"),
        (b"transfer-encoding", b"chunked"),
        (b"x-stillhouse-attempt", b"forged"),
        (b"x-stillhouse-team", b"blue"),
        (b"proxy-authorization", b"Basic x"),
    ]
    visitor = door().enter(sent)
    assert visitor is not None
    assert {name for name, _ in visitor.headers} == {
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-beta",
        b"idempotency-key",
    }
    assert {name for name, _ in visitor.headers} <= PASSED_ON


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LocalHost:8400", b"127.0.0.1:1", b"127.0.0.1", b"[::1]:8400", b"[::1]"],
)
def test_an_endpoint_on_loopback_answers_to_loopbacks_names(host: bytes) -> None:
    headers = [bearer(PLAIN_TOKEN), (b"host", host)]
    assert door(hosts=LOOPBACK_NAMES).enter(headers) is not None


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"localhost.evil.example",
        b"localhost@evil.example",
        b"evil.example:127.0.0.1",
        b"localhost:80:80",
        b"localhost:",
        b"127.0.0.1.nip.io",
        b"0.0.0.0",
    ],
)
def test_a_page_that_calls_under_another_name_is_sent_away(host: bytes) -> None:
    headers = [bearer(PLAIN_TOKEN), (b"host", host)]
    with pytest.raises(MisdirectedError) as caught:
        door(hosts=LOOPBACK_NAMES).enter(headers)
    assert "hosts in [server]" in str(caught.value)
    assert "evil" not in str(caught.value)


def test_without_a_list_any_name_will_do() -> None:
    assert door().enter([bearer(PLAIN_TOKEN), (b"host", b"any.example")]) is not None


def test_a_visitor_prints_without_secrets() -> None:
    ours = (b"x-stillhouse-key", PLAIN_TOKEN.encode())
    visitor = door().enter([ours, bearer("sk-mine"), (b"x-api-key", b"sk-other")])
    assert visitor is not None
    shown = f"{visitor!r} {visitor!s}"
    assert PLAIN_TOKEN not in shown
    assert "sk-" not in shown
    assert PLAIN.digest.hex() not in shown
    assert repr(PLAIN.salt) not in shown
    assert isinstance(visitor.key, VirtualKey)


@given(st.lists(st.tuples(st.sampled_from(sorted(PASSED_ON)), st.binary(max_size=20)), max_size=9))
def test_each_field_goes_on_once(sent: Headers) -> None:
    visitor = door().enter([bearer(PLAIN_TOKEN), *sent])
    assert visitor is not None
    names = [name for name, _ in visitor.headers]
    assert len(names) == len(set(names))


def test_a_name_that_was_let_in_lets_no_other_in() -> None:
    local = door(hosts=LOOPBACK_NAMES)
    for _ in range(2):
        assert local.enter([bearer(PLAIN_TOKEN), (b"host", b"localhost:1")]) is not None
        with pytest.raises(MisdirectedError):
            local.enter([bearer(PLAIN_TOKEN), (b"host", b"localhost.evil.example")])

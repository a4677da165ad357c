from __future__ import annotations

import gzip
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.dialects.detecting import found, iban, luhn
from stillhouse.dialects.redact import Redactor, hashed, redact, redact_body

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[2] / "../shared/data"))

# Put together here, so that no scanner takes this file for a leak.
KEYS = [
    "sk-" + "proj-a1B2c3D4e5F6g7H8i9J0",
    "sk-" + "ant-api03-a1B2c3D4e5F6g7H8",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8",
    "github_pat_" + "a1B2c3D4e5F6g7H8i9J0ab",
    "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "xoxb-" + "123456789012-abcdefGHIJKL",
    "AIza" + "SyA1B2c3D4e5F6g7H8i9J0K1L2M3N4O5P6Q",
    "hf_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6",
    "sk_live_" + "a1B2c3D4e5F6g7H8",
    "eyJhbGciOiJIUzI1NiJ9" + "." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0" + "." + "dozjgNryP4J3jVmNHl0w5N",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_found_by_their_beginnings(key: str) -> None:
    assert redact(f"use {key}, please") == "use <KEY_1>, please"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer <KEY_1>"),
        ("password = 'correct-horse-7-battery'", "password = '<KEY_1>'"),
        ('API_KEY="0123456789abcdef"', 'API_KEY="<KEY_1>"'),
        ("postgres://ada:pa55@db.example/x", "postgres://<CREDENTIALS_1>@db.example/x"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----.", "<KEY_1>."),
        ("cut: -----BEGIN RSA PRIVATE KEY-----\nMIIE", "cut: <KEY_1>"),
        ("ada.lovelace+x@mail.example.com!", "<EMAIL_1>!"),
        ("müller@bücher.example", "<EMAIL_1>"),
        ("(ada@example.com)", "(<EMAIL_1>)"),
        ("IBAN DE89 3704 0044 0532 0130 00 thanks", "IBAN <IBAN_1> thanks"),
        ("gb82west12345698765432", "<IBAN_1>"),
        ("pay 4111 1111 1111 1111 now", "pay <CARD_1> now"),
        ("5500-0000-0000-0004", "<CARD_1>"),
        ("378282246310005", "<CARD_1>"),
        ("my ssn is 123-45-6789.", "my ssn is <SSN_1>."),
        ("from 192.168.0.1:8080", "from <IP_1>:8080"),
        ("at 2001:db8::8a2e:370:7334", "at <IP_1>"),
        ("call +49 30 1234567", "call <PHONE_1>"),
        ("call +1 (415) 555-2671", "call <PHONE_1>"),
        ("call (415) 555-2671", "call <PHONE_1>"),
        ("call 415-555-2671", "call <PHONE_1>"),
        ("call 020 7946 0958", "call <PHONE_1>"),
        ("call 0800 555 111", "call <PHONE_1>"),
    ],
)
def test_what_is_found_has_a_placeholder_in_its_place(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "I paid 1,234.56 on 2026-11-22 at 10:15:30 for order 100200300.",
        "version 1.2.3, python 3.11.7-4, v10.0.0.1, 5.006440401077271",
        "4111 1111 1111 1112",  # no check digit
        "DE88370400440532013000",
        "000-12-3456 and 123-45-67890",
        "550e8400-e29b-41d4-a716-446655440000",
        "std::vector<int> and add::face and ::",
        "ask@home or @handle or a@b",
        "the bearer of this letter is trustworthy",
        "token: word and secret: nothing",
        "sk-short",
        "1732300000 1732300000123",
        "999.999.999.999",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text) == text


def test_the_same_value_has_the_same_placeholder_in_a_whole_body() -> None:
    body = {"messages": [{"content": "ada@example.com"}, {"content": "bob@example.com"}]}
    body["messages"].append({"content": "again ada@example.com"})
    redacted = json.loads(redact_body(json.dumps(body).encode()))
    said = [message["content"] for message in redacted["messages"]]
    assert said == ["<EMAIL_1>", "<EMAIL_2>", "again <EMAIL_1>"]
    redactor = Redactor()
    assert redactor.body(b"ada@example.com") == b"<EMAIL_1>"
    assert redactor.body(b'"bob@example.com"') == b'"<EMAIL_2>"'
    assert redactor.body(b'["ada@example.com"]') == b'["<EMAIL_1>"]'


def test_all_but_the_strings_stays_byte_for_byte() -> None:
    body = b'{ "n" :1.0e3,\t"big":123456789012345678901234567890,"s":"a@b.example \\u00e9", "x":{}}'
    assert redact_body(body) == body.replace(b"a@b.example", b"<EMAIL_1>")
    untouched = '{"a":"né \\ud83d \\/ ","b":[1,2.50]}\n'.encode() + b'\xff"\xfe'
    assert redact_body(untouched) == untouched


def test_ids_keep_their_digits_but_no_address_hides_in_one() -> None:
    body = b'{"id":"4111111111111111","model":"m","metadata":{"id":"ada@example.com"}}'
    assert redact_body(body) == body.replace(b"ada@example.com", b"<EMAIL_1>")


def test_names_of_fields_and_bare_numbers_are_looked_at() -> None:
    body = b'{"ada@example.com": 4111111111111111, "at": 1732300000123}'
    assert redact_body(body) == b'{"<EMAIL_1>": "<CARD_1>", "at": 1732300000123}'


def test_arguments_of_tools_stay_json() -> None:
    inner = json.dumps({"to": "ada@example.com", "text": "Hi\nada@example.com\u00e9x@y.example"})
    body = json.dumps({"tool_calls": [{"function": {"arguments": inner}}]}).encode()
    redacted = json.loads(redact_body(body))
    arguments = json.loads(redacted["tool_calls"][0]["function"]["arguments"])
    assert arguments["to"] == "<EMAIL_1>"
    assert arguments["text"].startswith("Hi\n<EMAIL_1>")
    assert "@" not in arguments["text"]


def test_files_are_taken_out_whole() -> None:
    picture = "iVBORw0KGgo" * 40
    body = {
        "a": {"image_url": {"url": f"data:image/png;base64,{picture}"}},
        "b": {"source": {"type": "base64", "data": picture}},
        "c": "data: that is what we need",
    }
    redacted = json.loads(redact_body(json.dumps(body).encode()))
    assert redacted["a"]["image_url"]["url"] == "<DATA_1>"
    assert redacted["b"]["source"] == {"type": "base64", "data": "<DATA_2>"}
    assert redacted["c"] == body["c"]


@pytest.mark.parametrize("cut", range(60, 90))
def test_a_body_that_is_cut_off_is_redacted_to_its_end(cut: int) -> None:
    body = (
        b'{"messages":[{"role":"user","content":"say \\" to ada@example.com and bob@example.com"}]}'
    )
    redacted = redact_body(body[:cut])
    assert b"ada@" not in redacted or cut < 63  # no address yet
    assert redacted.startswith(b'{"messages":[{"role":"user","content":"say \\" to ')


def test_a_string_that_is_cut_within_an_escape_is_redacted_too() -> None:
    assert redact_body(b'{"a":"ada@example.com \\') == b'{"a":"<EMAIL_1> \\'
    assert redact_body(b'{"a":"ada@example.com \\u00') == b'{"a":"<EMAIL_1> \\u00'


def chat(*pieces: str, choice: int = 0) -> bytes:
    events = [
        {"id": "c", "choices": [{"index": choice, "delta": {"content": piece}}]} for piece in pieces
    ]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def contents(stream: bytes) -> list[str]:
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line)["choices"][0]["delta"]["content"] for line in lines]


def test_an_address_that_a_stream_spreads_over_events_is_found() -> None:
    stream = chat("Write to a", "da@exam", "ple", ".com", ", or call +49", " 30 1234", "567", ".")
    redacted = redact_body(stream + b"data: [DONE]\n\n")
    assert contents(redacted) == [
        "Write to <EMAIL_1>",
        "",
        "",
        "",
        ", or call <PHONE_1>",
        "",
        "",
        ".",
    ]
    assert redacted.endswith(b"\n\ndata: [DONE]\n\n")
    assert redacted.count(b"\n") == stream.count(b"\n") + 2


def test_several_answers_in_one_stream_are_kept_apart() -> None:
    one, two = ["ada@ex", "ample.com"], ["bob@exa", "mple.com"]
    mixed = b"".join(chat(a) + chat(b, choice=1) for a, b in zip(one, two, strict=True))
    assert contents(redact_body(mixed)) == ["<EMAIL_1>", "<EMAIL_2>", "", ""]


def test_streams_of_the_other_dialects_are_read_across_events() -> None:
    messages = b"".join(
        b"event: content_block_delta\ndata: "
        + json.dumps(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            }
        ).encode()
        + b"\n\n"
        for text in ("ada@", "example.com")
    )
    assert b"example.com" not in redact_body(messages)
    responses = b"".join(
        b"event: response.output_text.delta\ndata: "
        + json.dumps({"item_id": "msg_1", "output_index": 0, "delta": text}).encode()
        + b"\n\n"
        for text in ("4111 1111 ", "1111 1111")
    )
    assert b"1111" not in redact_body(responses)


def test_a_body_that_is_no_json_is_redacted_as_text() -> None:
    assert redact_body(b"<html>ask ada@example.com</html>") == b"<html>ask <EMAIL_1></html>"
    assert redact_body(b"") == b""


SAID = st.lists(
    st.sampled_from(["ada@example.com", "+49 30 1234567", "4111111111111111", "hello", " ", "é\n"]),
    max_size=8,
).map(" ".join)


@given(SAID, st.lists(st.integers(0, 120), max_size=6))
def test_however_a_stream_is_cut_into_events_the_same_text_comes_out(
    said: str, cuts: list[int]
) -> None:
    edges = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    pieces = [said[a:b] for a, b in pairwise(edges)]
    assert "".join(contents(redact_body(chat(*pieces)))) == redact(said)


@given(SAID)
def test_redacting_again_changes_nothing(said: str) -> None:
    assert redact(redact(said)) == redact(said)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_stays_the_same_structure(value: object) -> None:
    body = json.dumps({"value": value}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    redacted = redact_body(body)
    if not found(json.dumps(value, ensure_ascii=False)):
        assert redacted == body
    assert list(json.loads(redacted)) == ["value"]


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(body: bytes) -> None:
    redact_body(body)
    redact_body(b'{"a":"' + body)
    redact_body(b'data: {"content":"' + body)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "a." * 150_000 + "@",
        "1 " * 150_000,
        "a@" * 150_000,
        "::" * 150_000,
        '"' * 300_000,
        "\\" * 300_000,
        "+1" * 150_000,
        "0-" * 150_000,
    ],
)
def test_long_texts_made_to_be_slow_are_not(text: str) -> None:
    redact(text)  # minutes, were any pattern of higher order than the text is long
    redact_body(b'{"content":"' + text.encode())


def test_checksums_are_those_of_the_standards() -> None:
    assert [card for card in ("79927398713", "79927398710") if luhn(card)] == ["79927398713"]
    assert iban("NL91ABNA0417164300")
    assert not iban("NL91ABNA041716430")
    assert not iban("XX91ABNA0417164300")


def test_a_fingerprint_needs_its_key_and_depends_on_it() -> None:
    assert hashed(b"body", b"k") == hashed(b"body", b"k")
    assert len({hashed(b"body", b"k"), hashed(b"body", b"l"), hashed(b"bodz", b"k")}) == 3
    assert hashed(b"body", b"k" * 64) != hashed(b"body", b"k" * 65)
    with pytest.raises(ValueError, match="empty"):
        hashed(b"body", b"")


def test_nothing_is_found_in_thirteen_thousand_recorded_questions_of_a_bank() -> None:
    path = DATA / "banking77_deepseek" / "banking77_deepseek_v4.1_flash.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    assert len(texts) == 13_083
    assert [text for text in texts if found(text)] == []

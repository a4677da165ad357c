"""What a caller asked, what it got, and what each call to a model used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec.structs import astuple

from stillhouse.core.money import Paid
from stillhouse.core.nouns import MappedNoun, Noun


class Evidence(StrEnum):
    """How well a figure is known; a sum is only as good as its weakest part (`weakest`)."""

    REPORTED = "reported"
    DERIVED = "derived"
    ESTIMATED = "estimated"
    SCENARIO = "scenario"


_GRADES = tuple(Evidence)


def weakest(*grades: Evidence) -> Evidence:
    """The grade of a figure made from parts of these grades (law 7 of the books).

    >>> weakest(Evidence.REPORTED, Evidence.ESTIMATED).value
    'estimated'
    """
    return max(grades, key=_GRADES.index)


class Usage(MappedNoun):
    """Disjoint counts: every token stands in exactly one field, and totals are sums of fields.

    >>> Usage(input_tokens=100, cache_read_tokens=900, output_tokens=20).total_input_tokens
    1000
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0

    def __post_init__(self) -> None:
        if (  # in every call: a third of what min() of all counts takes
            self.input_tokens < 0
            or self.cache_read_tokens < 0
            or self.cache_write_5m_tokens < 0
            or self.cache_write_1h_tokens < 0
            or self.input_audio_tokens < 0
            or self.cache_audio_read_tokens < 0
            or self.input_image_tokens < 0
            or self.output_tokens < 0
            or self.reasoning_tokens < 0
            or self.output_audio_tokens < 0
            or self.output_image_tokens < 0
            or self.web_searches < 0
        ):
            name, count = next((n, c) for n, c in zip(LEAVES, astuple(self), strict=True) if c < 0)
            raise ValueError(f"{name} is {count}; a count of tokens cannot be negative")

    @property
    def total_input_tokens(self) -> int:
        """All tokens that went in, cached ones included (OpenTelemetry's rule)."""
        return (  # asked several times for each call: no loop
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.input_audio_tokens
            + self.cache_audio_read_tokens
            + self.input_image_tokens
        )

    @property
    def total_output_tokens(self) -> int:
        """All tokens that came out, reasoning included."""
        return (
            self.output_tokens
            + self.reasoning_tokens
            + self.output_audio_tokens
            + self.output_image_tokens
        )

    def leaves(self) -> dict[str, int]:
        """The fields that are not zero, in order."""
        return {name: count for name, count in zip(LEAVES, astuple(self)) if count}  # noqa: B905


LEAVES: tuple[str, ...] = Usage.__struct_fields__
INPUT_LEAVES: tuple[str, ...] = LEAVES[:7]
OUTPUT_LEAVES: tuple[str, ...] = LEAVES[7:11]


class AttemptKind(StrEnum):
    """Why a model was called."""

    TEACHER = "teacher"
    STUDENT = "student"
    SHADOW = "shadow"
    RETRY = "retry"
    FALLBACK = "fallback"
    HEDGE = "hedge"
    CACHE = "cache"


class Attempt(Noun):
    """One call to one model: the unit of cost.

    `at_us` is microseconds since 1970 in UTC, None where the log does not say. `reported_cost` is
    what the provider says it charged. `usage` is None where the log holds no counts.
    """

    attempt_id: str
    model: str
    at_us: int | None = None
    host: str = ""
    kind: AttemptKind = AttemptKind.TEACHER
    usage: Usage | None = None
    latency_ms: float | None = None
    reported_cost: Paid | None = None
    ok: bool = True
    service_tier: str = ""
    batch: bool = False
    region: str = ""
    evidence: Evidence = Evidence.REPORTED


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; parts that are not text are kept as a short tag."""

    role: str
    text: str


class Tags(MappedNoun):
    """Who asked, for what: taken from metadata, headers or columns; empty where nobody said."""

    task: str = ""
    team: str = ""
    customer: str = ""
    feature: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked: the conversation, the tools on offer and the wanted answer form."""

    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()
    response_format: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the caller got: text, or the tool that was chosen with its arguments as JSON text."""

    text: str = ""
    tool: str = ""
    tool_arguments: str = ""
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with its attempts and its answer: the fact from which all else is derived."""

    exchange_id: str
    request: Request
    completion: Completion
    attempts: tuple[Attempt, ...]
    tags: Tags = field(default_factory=Tags)
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def at_us(self) -> int | None:
        """When the first attempt was made."""
        return self.attempts[0].at_us if self.attempts else None


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One readable row of a log, before its usage is decomposed and priced.

    `usage_body` is the provider's usage object as logged and `dialect` says by whose rules to read
    it: `openai`, `responses`, `anthropic`, or `columns` (the names of Usage's totals in a table).
    `declared_id` is the log's own id for the call, empty where it has none. `line` counts from 1.
    """

    line: int
    request: Request
    completion: Completion
    model: str
    dialect: str
    usage_body: Mapping[str, object] | None = None
    declared_id: str = ""
    at_us: int | None = None
    host: str = ""
    latency_ms: float | None = None
    reported_cost: Paid | None = None
    ok: bool = True
    service_tier: str = ""
    batch: bool = False
    tags: Tags = field(default_factory=Tags)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that could not be read: set aside with its line number and the reason."""

    line: int
    reason: str
    raw: str

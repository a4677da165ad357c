"""Requests of known tasks, recognised again elsewhere exactly as discovery assigned them.

Discovery writes down what it found; whoever serves reads that back and asks about one request at
a time. Nothing here needs arrays, and what was read off a prompt is remembered by its hash alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from stillhouse.core.errors import StoreError
from stillhouse.core.traffic import Request
from stillhouse.distillation.discovery import Opening, TaskModels, Variant
from stillhouse.distillation.discovery_candidates import content_words
from stillhouse.distillation.discovery_groups import Context, fingerprint
from stillhouse.distillation.templates import Template, masked

FORMAT = 1
_REMEMBERED = 4096
_CHARACTERS_A_WORD = 32
_ANYTHING = Template(("",), ())


class Found(NamedTuple):
    """Where a request belongs: its task, its slot text, and the digest of its constant part.

    Two requests of one version of a prompt have the same `prompt`, whatever stands in the slots
    and whatever numbers vary; an edited prompt has another.
    """

    task: str
    text: str
    prompt: str


def written(models: TaskModels) -> bytes:
    """Write the models down, so that a Recogniser reads the same tasks out of them.

    The same models give the same bytes.
    """
    variants: dict[str, int] = {}

    def numbers(chosen: Iterable[Variant]) -> list[int]:
        notes = (json.dumps([v.task, *_written_template(v.template)]) for v in chosen)
        return [variants.setdefault(note, len(variants)) for note in notes]

    known = {str(key): numbers(models.known[key]) for key in sorted(models.known)}
    tagged = {tag: numbers(models.tagged[tag]) for tag in sorted(models.tagged)}
    openings = [
        {
            "roles": opening.context.roles,
            "frame": None if opening.frame is None else list(map(_written_template, opening.frame)),
            "words": dict(sorted(opening.words.items())),
            "variants": numbers(opening.variants),
        }
        for opening in models.openings
        if opening.variants
    ]
    body = {
        "format": FORMAT,
        "variants": [json.loads(note) for note in variants],
        "known": known,
        "tagged": tagged,
        "openings": openings,
    }
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _written_template(template: Template) -> list[list[str]]:
    return [list(template.pieces), [pattern.pattern for pattern in template.patterns]]


class _Setting(NamedTuple):
    """What is known of a context: the variants that may fit, and the hashes of what is constant.

    `frames` has the hash of the frame by which a task knows the context; what stands in a frame's
    slots is no part of the prompt. `around` is the hash of the whole context, for all others.
    """

    variants: tuple[Variant, ...]
    frames: Mapping[str, Any]
    around: Any

    def digest(self, variant: Variant) -> str:
        """The digest of the prompt whose user message fits a variant."""
        found = self.frames.get(variant.task, self.around).copy()
        found.update(variant.template.text.encode("utf-8", "surrogatepass"))
        digest: str = found.hexdigest()
        return digest


class Recogniser:
    """Finds the task of a request; the same answer as `discovery.assign` on the models written.

    >>> nothing = Recogniser.read(written(TaskModels({}, {}, {}, ())))
    >>> nothing.find(Request(()), tag="desk") is None
    True
    """

    def __init__(
        self,
        known: Mapping[int, list[Variant]],
        tagged: Mapping[str, Sequence[Variant]],
        openings: Sequence[Opening],
    ) -> None:
        self._known = known
        self._tagged = tagged
        self._openings: dict[tuple[str, ...], list[Opening]] = {}
        for opening in openings:
            self._openings.setdefault(opening.context.roles, []).append(opening)
        self._settings: dict[bytes, _Setting] = {}

    @classmethod
    def read(cls, body: bytes) -> Recogniser:
        """Read what `written` wrote. Raises StoreError where it is of another format."""
        facts = json.loads(body)
        if facts.get("format") != FORMAT:
            raise StoreError(
                f"the recogniser has the format {facts.get('format')!r} and this version reads "
                f"{FORMAT}; run `stillhouse tasks` again"
            )
        variants = [
            Variant(task, _read_template(pieces, patterns), 0)
            for task, pieces, patterns in facts["variants"]
        ]
        openings = [
            Opening(
                Context(tuple(found["roles"]), (), 0, "", ""),
                None
                if found["frame"] is None
                else tuple(_read_template(*t) for t in found["frame"]),
                Counter(found["words"]),
                tuple(variants[number] for number in found["variants"]),
            )
            for found in facts["openings"]
        ]
        return cls(
            {int(key): [variants[n] for n in numbers] for key, numbers in facts["known"].items()},
            {tag: [variants[n] for n in numbers] for tag, numbers in facts["tagged"].items()},
            openings,
        )

    def find(self, request: Request, tag: str = "") -> Found | None:
        """The task of a request, its slot text and its prompt's digest; None if it has no task."""
        parts = _parted(request)
        if parts is None:
            return None
        roles, texts, text = parts
        tag = tag.strip()
        # Every variant stands in an opening of its own roles: conversations end here, unread.
        if (tag not in self._tagged) if tag else (roles not in self._openings):
            return None
        setting = self._setting(roles, texts)
        variants = setting.variants
        if tag:
            variants = (*(v for v in variants if v.task == tag), *self._tagged[tag])
        for variant in variants:
            slot = variant.template.slot(text)
            if slot is not None:
                return Found(variant.task, slot, setting.digest(variant))
        if not tag:
            return None
        return Found(tag, text.strip(), setting.digest(Variant(tag, _ANYTHING, 0)))

    def _setting(self, roles: tuple[str, ...], texts: tuple[str, ...]) -> _Setting:
        """What is known of a context, remembered by its hash so that no caller's text is kept."""
        mark = _hashed((*roles, *texts), 16).digest()
        setting = self._settings.get(mark)
        if setting is None:
            setting = self._read_setting(roles, texts)
            if len(self._settings) >= _REMEMBERED:
                self._settings.clear()
            self._settings[mark] = setting
        return setting

    def _read_setting(self, roles: tuple[str, ...], texts: tuple[str, ...]) -> _Setting:
        forms = tuple(map(masked, texts))
        around = _hashed((*roles, *forms))
        openings = self._openings.get(roles, [])
        context = Context(roles, texts, 0, "", "")
        said = _said(texts, openings)
        admitting = [opening for opening in openings if opening.admits(context, said)]
        frames = {
            variant.task: _hashed((*roles, *(template.text for template in opening.frame)))
            for opening in admitting
            if opening.frame is not None
            for variant in opening.variants[:1]
        }
        known = self._known.get(fingerprint("\0".join((*roles, *forms))))
        if known is None:
            known = [variant for opening in admitting for variant in opening.variants]
            known.sort(key=lambda v: (-v.template.constant, v.task, v.template.text))
        return _Setting(tuple(known), frames, around)


def _parted(request: Request) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
    """Roles and texts around the last user message, and its text, as `split_request` has them."""
    messages = request.messages
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            break
    else:
        return None
    if len(messages) == 1:
        return (">",), (), messages[0].text
    before, after = messages[:index], messages[index + 1 :]
    roles = (
        *("system" if message.role == "developer" else message.role for message in before),
        ">",
        *(message.role for message in after),
    )
    return roles, tuple(message.text for message in (*before, *after)), messages[index].text


def _said(texts: Sequence[str], openings: Sequence[Opening]) -> Counter[str]:
    """The words of a context; only its beginning where it is too long to be a version of any."""
    lengths = [opening.words.total() for opening in openings if opening.frame is None]
    if not lengths:
        return Counter()
    whole = "\n".join(texts)
    most = 2 * max(lengths) + 4
    beginning = content_words(whole[: most * _CHARACTERS_A_WORD])
    if len(beginning) > most or len(whole) <= most * _CHARACTERS_A_WORD:
        return Counter(beginning)
    return Counter(content_words(whole))


def _hashed(parts: Sequence[str], size: int = 8) -> Any:
    """A hash of texts, each with its length before it: no text can look like two."""
    found = blake2b(digest_size=size)
    for part in parts:
        body = part.encode("utf-8", "surrogatepass")
        found.update(b"%d:" % len(body))
        found.update(body)
    return found


def _read_template(pieces: Sequence[str], patterns: Sequence[str]) -> Template:
    return Template(tuple(pieces), tuple(map(re.compile, patterns)))

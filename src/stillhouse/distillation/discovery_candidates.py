"""Which groups of traffic are tasks, and which are one task whose prompt has drifted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from stillhouse.core.learning import AnswerShape
from stillhouse.distillation.answers import AnswerSpace, AnswerTally, read_answer
from stillhouse.distillation.discovery_groups import (
    SETTLED,
    Context,
    Crowd,
    Group,
    Item,
    fingerprint,
)
from stillhouse.distillation.templates import Template, families, fixed, induce, masked, words

_PLAIN = frozenset(
    words(
        """a about above according after all also always am an and any are as assistant at be been
        below by can chatgpt claude concise could do does each every exactly expert following for
        friendly from given gpt has have helpful here how i if in into is it its language large
        list made me model must my never no not of on one only openai anthropic or our out please
        polite return s should so text that the their them then there these they this those to
        trained us use user using very was we what when which who will with would you your yours"""
    )
)
"""Words that say nothing about a task; they are neither counted nor put into its name."""

_INSTRUCTIVE = 3
_DEMONSTRATED = 0.8
_CHATTY = 0.1
_SMALL_EDIT = 0.1
_LARGE_EDIT = 0.35
_MANY_VERSIONS = 30
_SKETCH = 8


def content_words(text: str) -> list[str]:
    """The words that say what a prompt is about.

    >>> content_words("You are a helpful assistant. Sort the customer's messages.")
    ['sort', 'customer', 'messages']
    """
    return [word for word in words(text) if len(word) > 1 and word not in _PLAIN]


@dataclass(frozen=True)
class Candidate:
    """A group of exchanges that may be a task: one context, one template of the user message.

    `volume` is estimated from the sample. `frame` holds a template for each text of the context
    where contexts hardly repeat, None where they do. `whole` says that the context alone makes
    the task, so that user messages that do not fit the template belong to it as well.
    """

    tag: str
    volume: float
    items: tuple[Item, ...]
    frame: tuple[Template, ...] | None
    whole: bool

    @cached_property
    def context(self) -> Context:
        """The context of the candidate, or one of several that are alike."""
        return min((item.context for item in self.items), key=lambda context: context.texts)

    @cached_property
    def template(self) -> Template:
        """The template of the user message."""
        return induce([item.text for item in self.items])

    @cached_property
    def surroundings(self) -> tuple[str, ...]:
        """The constant text of each message of the context."""
        if self.frame is not None:
            return tuple(template.text for template in self.frame)
        return self.context.texts

    @cached_property
    def prompt(self) -> str:
        """All text that does not change."""
        return "\n".join((*self.surroundings, *self.template.pieces))

    @cached_property
    def tally(self) -> AnswerTally:
        """The answers in the sample."""
        tally = AnswerTally()
        for item in self.items:
            tally.add(read_answer(item.completion))
        return tally

    @cached_property
    def space(self) -> AnswerSpace:
        """What the answers have in common."""
        return self.tally.space(self.prompt)

    @cached_property
    def context_words(self) -> Counter[str]:
        """What the context says."""
        return Counter(content_words("\n".join(self.surroundings)))

    @cached_property
    def template_words(self) -> Counter[str]:
        """What the constant part of the user message says."""
        return Counter(content_words("\n".join(self.template.pieces)))

    @cached_property
    def sketch(self) -> frozenset[int]:
        """The lowest fingerprints of the prompt's words: alike prompts have one in common."""
        said = {fingerprint(word) for word in self.context_words | self.template_words}
        return frozenset(sorted(said)[:_SKETCH])

    @property
    def instructive(self) -> bool:
        """Whether the context says enough to be a task's whole instruction."""
        return self.context_words.total() >= _INSTRUCTIVE

    def slug(self, familiar: frozenset[str] = frozenset()) -> str:
        """A readable name from the first words, less familiar ones, that say what it is about."""
        said = content_words("\n".join(self.surroundings))
        if len(said) < 2:
            said += content_words("\n".join(self.template.pieces))
        return "-".join([word for word in dict.fromkeys(said) if word not in familiar][:4])

    @property
    def written(self) -> str:
        """The whole prompt as a person reads it."""
        texts = iter(self.surroundings)
        return "\n\n".join(
            f"[user]\n{self.template.text}" if role == ">" else f"[{role}]\n{next(texts)}"
            for role in self.context.roles
        )

    @cached_property
    def span(self) -> tuple[int, int] | None:
        """First and last microsecond of the sample, where the log knows."""
        times = [item.at_us for item in self.items if item.at_us is not None]
        return (min(times), max(times)) if times else None


def find_candidates(crowds: dict[tuple[str, ...], Crowd]) -> list[Candidate]:
    """Turn gathered traffic into the groups that are tasks, whatever their volume.

    Conversations are none, nor are single questions to a prompt that conversations open with.
    """
    found: list[Candidate] = []
    chats: Counter[str] = Counter()
    for (tag, *_), crowd in sorted(crowds.items()):
        groups, strays = crowd.settle()
        for group in groups:
            found += _parts(tag, group, None)
        if not strays.count:
            continue
        if strays.sample[0].context.has_turns and not tag and not _demonstrates(strays):
            chats.update(item.context.system for item in strays.sample)
        elif tag or strays.count >= SETTLED:
            found += _parts(tag, strays, _frame(strays.sample))
    singles: Counter[str] = Counter()
    for candidate in found:
        singles[candidate.context.system] += len(candidate.items)
    return [
        candidate
        for candidate in found
        if candidate.tag
        or _is_task(candidate, chats[candidate.context.system], singles[candidate.context.system])
    ]


def _frame(items: Sequence[Item]) -> tuple[Template, ...]:
    """A template for each message of contexts that vary, fixed where a message does not."""
    columns = zip(*(item.context.texts for item in items), strict=True)
    return tuple(
        fixed(min(column)) if len(set(map(masked, column))) == 1 else induce(column)
        for column in columns
    )


def _demonstrates(strays: Group) -> bool:
    """Whether earlier answers are examples of the last one's form, so that they are few-shot."""
    shown, last = AnswerTally(), AnswerTally()
    for item in strays.sample:
        last.add(read_answer(item.completion))
        named = [role for role in item.context.roles if role != ">"]
        for role, text in zip(named, item.context.texts, strict=True):
            if role == "assistant":
                shown.add(read_answer(type(item.completion)(text=text)))
    space = last.space("")
    return bool(shown.total) and space.closed and shown.share_within(space) >= _DEMONSTRATED


def _parts(tag: str, group: Group, frame: tuple[Template, ...] | None) -> list[Candidate]:
    """One candidate for a group, or several where its user messages hold other instructions."""
    items = group.sample

    def candidate(members: Sequence[Item], whole: bool) -> Candidate:
        volume = group.count * len(members) / len(items)
        return Candidate(tag, volume, tuple(members), frame, whole)

    whole = candidate(items, True)
    split = families([item.text for item in items])
    if not split:
        return [whole]
    parts = [candidate([items[i] for i in family], False) for family in split]
    if whole.instructive:
        kept = _foreign(whole, parts)
    else:
        inside = {i for family in split for i in family}
        rest = candidate([item for i, item in enumerate(items) if i not in inside], True)
        kept = [part for part in parts if not _belongs(part, rest)]
    taken = {item.exchange_id for part in kept for item in part.items}
    left = [item for item in items if item.exchange_id not in taken]
    return [*kept, candidate(left, True)] if left else kept


def _foreign(whole: Candidate, parts: list[Candidate]) -> list[Candidate]:
    """The parts that are tasks of their own under one instructive context."""
    if not whole.space.closed:
        return [part for part in parts if part.space.closed]
    covered = sum(len(part.items) for part in parts) >= 0.8 * len(whole.items)
    apart = any(a.tally.share_within(b.space) < 0.5 for a in parts for b in parts)
    return parts if covered and apart else []


def _belongs(part: Candidate, rest: Candidate) -> bool:
    return (
        len(rest.items) > len(part.items)
        and rest.space.closed
        and part.tally.share_within(rest.space) >= 0.6
    )


def _is_task(candidate: Candidate, chats: int, singles: int) -> bool:
    """Whether a repeated instruction stands behind these exchanges."""
    instructed = candidate.template_words.total() >= 1
    if candidate.frame is not None and not candidate.instructive:
        return False
    if candidate.space.shape is AnswerShape.FIELDS:
        alike = max(candidate.space.presence.values(), default=0.0) >= 0.5
        return instructed or alike or candidate.context_words.total() >= 2
    if candidate.space.closed or instructed:
        return True
    chatty = chats >= _CHATTY * (chats + singles)
    return candidate.context_words.total() >= 2 and not chatty


def merge(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Join candidates that are one task: the same tag, or a prompt that drifted a little.

    Two different tags never meet. The order of the candidates makes no difference.
    """
    ranked = sorted(candidates, key=lambda c: (-c.volume, c.tag, c.prompt))
    homes: dict[str, list[Candidate]] = {}
    for candidate in ranked:
        if candidate.tag:
            homes.setdefault(candidate.tag, []).append(candidate)
    single = [[candidate] for candidate in ranked if not candidate.tag]
    fused = [part for chain in _link(single, _versions) for part in _fuse(chain)]
    clusters = list(homes.values())
    for chain in _link(fused, _same_task):
        home = next((home for home in homes.values() if _touch(home, chain, _same_task)), None)
        if home is None:
            clusters.append(chain)
        else:
            home.extend(chain)
    return clusters


_Judge = Callable[[Candidate, Candidate], bool]


def _link(groups: list[list[Candidate]], alike: _Judge) -> list[list[Candidate]]:
    """Join groups wherever two of their members are alike."""
    chains: list[list[Candidate]] = []
    for group in groups:
        near = [i for i, chain in enumerate(chains) if _touch(chain, group, alike)]
        joined = [member for i in near for member in chains[i]]
        chains = [chain for i, chain in enumerate(chains) if i not in near]
        chains.append([*joined, *group])
    return chains


def _touch(some: list[Candidate], others: list[Candidate], alike: _Judge) -> bool:
    return any(alike(a, b) for a in some for b in others)


def _fuse(chain: list[Candidate]) -> list[list[Candidate]]:
    """Versions that stand side by side are one task if all their answers together prove it.

    So many of them are one prompt with a slot, as a customer's name.
    """
    tally = AnswerTally()
    for candidate in chain:
        for item in candidate.items:
            tally.add(read_answer(item.completion))
    space = tally.space(chain[0].prompt)
    proof = _distinctive(space) and all(c.tally.share_within(space) >= 0.6 for c in chain)
    return [chain] if proof or len(chain) >= _MANY_VERSIONS else [[c] for c in chain]


def _swaps(a: Candidate, b: Candidate, tolerance: float) -> int | None:
    """Words put in place of others in context and template; None if that is no small edit."""
    if a.sketch != b.sketch and a.sketch.isdisjoint(b.sketch):
        return None
    context = swapped_words(a.context_words, b.context_words, tolerance)
    template = swapped_words(a.template_words, b.template_words, tolerance)
    return None if context is None or template is None else context + template


def _versions(a: Candidate, b: Candidate) -> bool:
    return _swaps(a, b, _SMALL_EDIT) is not None


def _same_task(a: Candidate, b: Candidate) -> bool:
    """Whether two prompts are versions of one, judged by their words and by their answers.

    Many answers in common are proof enough for a larger edit. Where answers prove little (yes and
    no, or text) words may be added or taken away; a word put in place of another must also have
    replaced it in time, for `French` in place of `German` may be another task.
    """
    if _swaps(a, b, _LARGE_EDIT) is None:
        return False
    few, many = sorted((a, b), key=lambda c: c.volume)
    within = few.tally.share_within(many.space)
    if within >= 0.8 and _distinctive(many.space):
        return True
    swaps = _swaps(a, b, _SMALL_EDIT)
    return within >= 0.6 and swaps is not None and (not swaps or _replaced(a.span, b.span))


def _distinctive(space: AnswerSpace) -> bool:
    if space.shape is AnswerShape.FIELDS:
        return len(space.presence) >= 3
    return len(space.labels) >= (2 if space.shape is AnswerShape.TOOL else 5)


def swapped_words(one: Counter[str], other: Counter[str], tolerance: float) -> int | None:
    """How many words were put in place of others; None if that is no small edit.

    >>> swapped_words(Counter("sort mail by topic".split()), Counter("sort mail".split()), 0.05)
    0
    """
    shorter, longer = sorted((one.total(), other.total()))
    common = (one & other).total()
    swapped = shorter - common
    if swapped > tolerance * shorter or longer > 2 * shorter + 3:
        return None
    return swapped


def _replaced(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    """Whether one came after the other rather than beside it."""
    if a is None or b is None:
        return False
    overlap = min(a[1], b[1]) - max(a[0], b[0])
    return overlap <= 0.2 * min(a[1] - a[0], b[1] - b[0])


def repeats(cluster: list[Candidate], minimum: int) -> bool:
    """Whether a cluster may have volume enough; the second pass counts exactly."""
    texts = {item.text for candidate in cluster for item in candidate.items}
    volume = sum(candidate.volume for candidate in cluster)
    tagged = any(candidate.tag for candidate in cluster)
    return 2 * volume >= minimum and (tagged or len(texts) >= SETTLED)


def oldest(cluster: list[Candidate]) -> Candidate:
    """The version that gives the task its name and template, so that edits do not rename it."""

    def age(candidate: Candidate) -> tuple[bool, float, float, str]:
        first = candidate.span[0] if candidate.span else float("inf")
        return (not candidate.tag, first, -candidate.volume, candidate.prompt)

    return min(cluster, key=age)

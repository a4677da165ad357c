"""Narrow tasks that repeat in traffic: found, measured, and recognised again.

Traffic is read twice. `induce_models` finds the prompts that repeat from bounded samples; `Survey`
assigns every exchange to a task and counts exactly. `discover` does both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256

from stillhouse.core.errors import CallerError
from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.traffic import Exchange
from stillhouse.distillation.discovery_candidates import (
    Candidate,
    content_words,
    find_candidates,
    merge,
    oldest,
    repeats,
    swapped_words,
)
from stillhouse.distillation.discovery_groups import (
    Context,
    gather,
    split_request,
)
from stillhouse.distillation.discovery_profiles import Count, Place, TaskProfile, audits
from stillhouse.distillation.templates import BARE, Template, masked

FEWEST = 20
"""Exchanges that make a task, unless the caller says otherwise."""
_DRIFT = 0.1


@dataclass(frozen=True, slots=True)
class Variant:
    """One version of a task's prompt: the template of its user message.

    `constant` counts the characters of the whole prompt that never change.
    """

    task: str
    template: Template
    constant: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A context that belongs to a task, for recognising one that was edited later."""

    context: Context
    frame: tuple[Template, ...] | None
    words: Counter[str]
    variants: tuple[Variant, ...]

    def admits(self, context: Context, said: Counter[str]) -> bool:
        """Whether another context, which says these words, is a version of this one."""
        if context.roles != self.context.roles:
            return False
        if self.frame is not None:
            pairs = zip(self.frame, context.texts, strict=True)
            return all(template.slot(text) is not None for template, text in pairs)
        return bool(self.words) and swapped_words(self.words, said, _DRIFT) is not None


@dataclass(frozen=True, eq=False)
class TaskModels:
    """All that is needed to recognise the tasks; `known` lists every context seen repeatedly."""

    tasks: Mapping[str, Task]
    known: Mapping[int, tuple[Variant, ...]]
    tagged: Mapping[str, tuple[Variant, ...]]
    openings: tuple[Opening, ...]

    def without(self, names: frozenset[str]) -> TaskModels:
        """The models less some tasks."""

        def left(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
            return tuple(variant for variant in variants if variant.task not in names)

        return TaskModels(
            {name: task for name, task in self.tasks.items() if name not in names},
            {key: left(variants) for key, variants in self.known.items()},
            {tag: variants for tag, variants in self.tagged.items() if tag not in names},
            tuple(replace(opening, variants=left(opening.variants)) for opening in self.openings),
        )


def induce_models(
    exchanges: Iterable[Exchange], *, minimum: int = FEWEST, seed: int = 0
) -> TaskModels:
    """Find the prompts that repeat, in one pass and bounded memory; the order does not matter.

    `seed` picks the sample. The task of a model has the shape TEXT until its answers are counted.
    """
    crowds = gather(exchanges, seed)
    clusters = [cluster for cluster in merge(find_candidates(crowds)) if repeats(cluster, minimum)]
    named = _tasks([oldest(cluster) for cluster in clusters])
    known: dict[int, list[Variant]] = {
        group.sample[0].context.key: [] for crowd in crowds.values() for group in crowd.settle()[0]
    }
    tagged: dict[str, list[Variant]] = {}
    openings: list[Opening] = []
    for task, cluster in zip(named, clusters, strict=True):
        for candidate in cluster:
            variants = _variants(task.name, candidate)
            if task.tagged:
                tagged.setdefault(task.name, []).extend(variants)
                if not candidate.instructive:  # others may write with no prompt as well
                    variants = [variant for variant in variants if variant.template.constant]
            if candidate.frame is None:
                known[candidate.context.key].extend(variants)
            said = candidate.context_words
            ranked = _closest_first(variants)
            openings.append(Opening(candidate.context, candidate.frame, said, ranked))
    return TaskModels(
        {task.name: task for task in named},
        {key: _closest_first(variants) for key, variants in known.items()},
        {tag: _closest_first(variants) for tag, variants in tagged.items()},
        tuple(openings),
    )


def _tasks(candidates: list[Candidate]) -> list[Task]:
    """A task for each candidate; names are unique."""
    names = _names(candidates)
    taken = Counter(names)
    tasks = []
    for name, candidate in zip(names, candidates, strict=True):
        form = "\0".join(map(masked, (*candidate.surroundings, *candidate.template.pieces)))
        signature = sha256(form.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        tagged = bool(candidate.tag)
        unique = name if tagged or taken[name] == 1 else f"{name}-{signature[:6]}"
        tasks.append(Task(unique, signature, AnswerShape.TEXT, candidate.written, tagged=tagged))
    return tasks


def _names(candidates: list[Candidate]) -> list[str]:
    """Tags, or first words of the prompts; where these are the same, the first that differ."""
    slugs = [candidate.tag or candidate.slug() or "task" for candidate in candidates]
    namesakes: dict[str, list[frozenset[str]]] = {}
    for slug, candidate in zip(slugs, candidates, strict=True):
        namesakes.setdefault(slug, []).append(frozenset(content_words(candidate.prompt)))
    shared = {
        slug: frozenset.intersection(*said) if len(said) > 1 else frozenset[str]()
        for slug, said in namesakes.items()
    }
    return [
        slug if candidate.tag else candidate.slug(shared[slug]) or slug
        for slug, candidate in zip(slugs, candidates, strict=True)
    ]


def _variants(task: str, candidate: Candidate) -> list[Variant]:
    if candidate.frame is None:
        around = sum(map(len, candidate.context.texts))
    else:
        around = sum(template.constant for template in candidate.frame)
    template = candidate.template
    variants = [Variant(task, template, around + template.constant)]
    if candidate.whole and candidate.instructive and template.constant:
        variants.append(Variant(task, BARE, around))
    return variants


def _closest_first(variants: list[Variant]) -> tuple[Variant, ...]:
    return tuple(sorted(variants, key=lambda v: (-v.template.constant, v.task, v.template.text)))


def assign(models: TaskModels, exchange: Exchange) -> tuple[str, str] | None:
    """The name of the exchange's task and its slot text; None if it belongs to no task."""
    place = _place(models, exchange)
    return None if place is None else (place.task, place.text)


def _place(models: TaskModels, exchange: Exchange) -> Place | None:
    parts = split_request(exchange.request)
    if parts is None:
        return None
    context, text = parts
    tag = exchange.tags.task.strip()
    variants = models.known.get(context.key)
    if variants is None:
        variants = _edited(models, context)
    if tag:
        if tag not in models.tagged:
            return None
        variants = (*(v for v in variants if v.task == tag), *models.tagged[tag])
    for variant in variants:
        slot = variant.template.slot(text)
        if slot is not None:
            return Place(variant.task, slot, variant.constant)
    return Place(tag, text.strip(), 0) if tag else None


@lru_cache(maxsize=4096)
def _edited(models: TaskModels, context: Context) -> tuple[Variant, ...]:
    """The variants whose context this new one is a version of."""
    said = Counter(content_words("\n".join(context.texts)))
    return _closest_first(
        [v for o in models.openings if o.admits(context, said) for v in o.variants]
    )


@dataclass(frozen=True, slots=True)
class Discovery:
    """The tasks found, largest first, and the models by which `assign` recognises them."""

    tasks: tuple[TaskProfile, ...]
    models: TaskModels
    exchanges: int


def discover(exchanges: Iterable[Exchange], *, minimum: int = FEWEST, seed: int = 0) -> Discovery:
    """Find the narrow tasks that repeat at least `minimum` times; memory does not grow with rows.

    The traffic is read twice, so it must be a collection, not an iterator (CallerError).
    """
    if isinstance(exchanges, Iterator):
        raise CallerError(
            f"discover reads the traffic twice and got a {type(exchanges).__name__}, which can be "
            "read once; pass a collection whose iter() starts anew"
        )
    survey = Survey(induce_models(exchanges, minimum=minimum, seed=seed), minimum)
    for exchange in exchanges:
        survey.add(exchange)
    return survey.result()


class Survey:
    """The second pass: assigns every exchange to at most one task and counts in bounded memory."""

    def __init__(self, models: TaskModels, minimum: int = FEWEST) -> None:
        self._models = models
        self._minimum = minimum
        self._counts = {name: Count() for name in models.tasks}
        self._exchanges = 0

    def add(self, exchange: Exchange) -> tuple[str, str] | None:
        """Count an exchange; returns what `assign` returns."""
        self._exchanges += not audits(exchange)
        place = _place(self._models, exchange)
        if place is None:
            return None
        self._counts[place.task].add(exchange, place)
        return place.task, place.text

    def result(self) -> Discovery:
        """The tasks that were met often enough."""
        rare = frozenset(
            name for name, count in self._counts.items() if count.volume < self._minimum
        )
        models = self._models.without(rare)
        profiles = [self._counts[name].profile(task) for name, task in models.tasks.items()]
        profiles.sort(key=lambda profile: (-profile.volume, profile.task.name))
        shaped = replace(models, tasks={profile.task.name: profile.task for profile in profiles})
        return Discovery(tuple(profiles), shaped, self._exchanges)

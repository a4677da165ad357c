"""The story of a charter: what the traffic says of a task is gathered, and fixed for a student."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from stillhouse.core.catalogue import Catalogue
from stillhouse.core.learning import Dataset, Task
from stillhouse.core.serving import Charter
from stillhouse.core.traffic import AttemptKind, Exchange
from stillhouse.distillation.answers import normalise_label
from stillhouse.distillation.dataset import Answered
from stillhouse.distillation.ladder import Rung
from stillhouse.distillation.recognition import Recogniser
from stillhouse.flows.workbench import Facts, Settings
from stillhouse.risk.inputs import known_words
from stillhouse.routing.contract import learnt_range

MOST_SCORES = 2_000
MOST_WORDS = 20_000
_IMAGE = "[image"
_DATED = re.compile(r"[-@](?:20\d\d-?\d\d-?\d\d|\d{4})$")
"""How vendors date a snapshot of a model that callers ask for without the date."""


def gather_facts(
    task: str,
    exchanges: Iterable[Exchange],
    recogniser: bytes,
    digest: str,
    names_of: Callable[[str], Iterable[str]],
) -> Facts:
    """Read off a task's exchanges what its charter has to say.

    `recogniser` is the artefact that `digest` names. `names_of` tells the names by which callers
    reach a model. What a student answered says nothing of the teacher.
    """
    known = Recogniser.read(recogniser)
    prompts: Counter[str] = Counter()
    teachers: Counter[str] = Counter()
    images = tools = False
    for exchange in exchanges:
        answered = next((a for a in reversed(exchange.attempts) if a.ok), None)
        if answered is None or answered.kind is AttemptKind.STUDENT:
            continue
        found = known.find(exchange.request, exchange.tags.task)
        if found is None or found.task != task:
            continue
        prompts[found.prompt] += 1
        teachers[answered.model] += 1
        tools = tools or bool(exchange.request.tools)
        images = images or any(_IMAGE in message.text for message in exchange.request.messages)
    asked = {name: None for model, _ in teachers.most_common() for name in names_of(model)}
    return Facts(
        recogniser=digest,
        prompts=tuple(prompt for prompt, _ in prompts.most_common()),
        asked_models=tuple(asked),
        teachers=tuple(model for model, _ in teachers.most_common()),
        images=images,
        tools=tools,
    )


def names_of(catalogue: Catalogue, model: str) -> tuple[str, ...]:
    """The names by which callers reach a model: its own, the one without a date, and its routes'.

    >>> from stillhouse.core.catalogue import Deployment, Route
    >>> fast = Route("fast", (Deployment("openai", "gpt-5"),))
    >>> names_of(Catalogue({}, {"fast": fast}), "gpt-5")
    ('gpt-5', 'fast')
    >>> names_of(Catalogue({}, {}), "gpt-4o-2024-08-06"), names_of(Catalogue({}, {}), "gpt-4-0613")
    (('gpt-4o-2024-08-06', 'gpt-4o'), ('gpt-4-0613', 'gpt-4'))
    """
    own = tuple(dict.fromkeys((model, _DATED.sub("", model))))
    leading = [
        route.name
        for route in catalogue.routes.values()
        if route.name not in own and any(one.model in own for one in route.deployments)
    ]
    return (*own, *leading)


def charter_of(
    task: Task,
    data: Dataset,
    best: Rung,
    literals: dict[str, str],
    settings: Settings,
    student: str,
    delta: float,
    now_us: int,
) -> Charter:
    """Fix what a frozen student may be asked and how it is judged, before the gate is asked."""
    texts = [row.text for row in data.train.rows]
    facts = settings.facts
    scores = sorted(map(float, best.scores))
    return Charter(
        task=data.task,
        version=settings.version,
        student=student,
        recipe=best.recipe,
        shape=task.shape,
        answers={label: literals.get(label, label) for label in data.labels},
        levels=tuple(map(float, best.levels)),
        planned_rows=len(data.calibration.rows),
        target=settings.target,
        delta=delta,
        recogniser=facts.recogniser,
        prompts=facts.prompts,
        asked_models=facts.asked_models,
        teachers=facts.teachers,
        inputs=learnt_range(texts, facts.images, facts.tools),
        scores=tuple(thinned(scores, MOST_SCORES)),
        words=tuple(sorted(known_words(texts, MOST_WORDS))),
        since_us=now_us,
        cost_pico=facts.cost_pico,
    )


def mean_cost(billed_pico: Iterable[int | None]) -> int:
    """What an answer cost on average, of those that had a price; 0 where none had.

    >>> mean_cost([10, None, 20])
    15
    """
    known = [pico for pico in billed_pico if pico is not None]
    return round(sum(known) / len(known)) if known else 0


def written_forms(data: Dataset, answered: Sequence[Answered]) -> dict[str, str]:
    """How the teacher writes each label: the most frequent form among the rows of training."""
    trained = {row.row_id for row in data.train.rows}
    forms: dict[str, Counter[str]] = {}
    for row in answered:
        label = normalise_label(row.answer)
        if row.row_id in trained and normalise_label(row.literal) == label:
            forms.setdefault(label, Counter())[row.literal] += 1
    return {label: counts.most_common(1)[0][0] for label, counts in forms.items()}


def thinned(values: Sequence[float], most: int) -> Sequence[float]:
    """At most so many of sorted values, evenly spread, the first and the last among them.

    >>> thinned([1, 2, 3, 4, 5, 6, 7], 3)
    [1, 4, 7]
    """
    if len(values) <= most:
        return values
    step = (len(values) - 1) / (most - 1)
    return [values[round(place * step)] for place in range(most)]

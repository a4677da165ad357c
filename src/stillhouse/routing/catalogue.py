"""Which route a model's public name means: its own, by alias, by upstream, by pattern.

>>> openai = Upstream("openai", models=("gpt-*",))
>>> catalogue = Catalogue({"openai": openai}, {"fast": Route("fast", (), aliases=("quick",))})
>>> [route.name for asked in ("fast", "quick", "gpt-5", "openai/o9", "grok")
...  if (route := find_route(catalogue, asked))]
['fast', 'fast', 'gpt-5', 'o9']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from stillhouse.core.catalogue import Catalogue, Deployment, Route, Upstream


def find_route(catalogue: Catalogue, model: str) -> Route | None:
    """The route that a caller's model name means, or None; the same for the same catalogue.

    An exact name goes before an alias, an alias before `upstream/model`, and that before the
    patterns of the upstreams in the order of the configuration. A route that is found by upstream
    or pattern is named after the bare model: a cap on `gpt-5` holds for `openai/gpt-5` as well.
    """
    own = catalogue.routes.get(model)
    if own is not None:
        return own
    for route in catalogue.routes.values():
        if model in route.aliases:
            return route
    upstream, slash, bare = model.partition("/")
    if slash and bare and upstream in catalogue.upstreams:
        return _usual(catalogue, upstream, bare)
    for served in catalogue.upstreams.values():
        if serves(served, model):
            return _usual(catalogue, served.name, model)
    return None


def serves(upstream: Upstream, model: str) -> bool:
    """Whether a model without a route of its own is this upstream's, by the upstream's patterns.

    >>> serves(Upstream("anthropic", models=("claude-*",)), "claude-x")
    True
    """
    return bool(model) and any(fnmatchcase(model, pattern) for pattern in upstream.models)


def names(catalogue: Catalogue) -> Iterator[str]:
    """Every public name that stands in the configuration: routes, then their aliases."""
    for route in catalogue.routes.values():
        yield route.name
        yield from route.aliases


def _usual(catalogue: Catalogue, upstream: str, model: str) -> Route:
    return replace(
        catalogue.usual,
        name=model,
        deployments=(Deployment(upstream, model),),
        aliases=(),
    )

"""Which of several deployments gets a call: by their weights, or by how quickly they answer."""

from __future__ import annotations

from collections.abc import Sequence

from stillhouse.core.catalogue import Balance, Deployment
from stillhouse.routing.health import Health


def choose(
    deployments: Sequence[Deployment], balance: Balance, health: Health, now: float, draw: float
) -> Deployment:
    """Choose one of at least one deployment; `draw` is a number from [0, 1).

    By weight, each gets its share. By latency, two are drawn by weight and the one that is likely
    to answer sooner is taken: that spreads load nearly as well as asking all, and does not send
    everybody to the same one at once. A weight of 0 is a reserve, for when there is nothing else.

    >>> both = (Deployment("a", "m", weight=3.0), Deployment("b", "m", weight=1.0))
    >>> [choose(both, Balance.WEIGHT, Health(), 0.0, draw).upstream for draw in (0.0, 0.74, 0.76)]
    ['a', 'a', 'b']
    """
    if len(deployments) == 1:
        return deployments[0]
    one = _drawn(deployments, draw)
    if balance is Balance.WEIGHT:
        return one
    others = [deployment for deployment in deployments if deployment is not one]
    other = _drawn(others, draw * 65536 % 1)  # the digits that the first draw did not use
    return other if health.load(other, now) < health.load(one, now) else one


def _drawn(deployments: Sequence[Deployment], draw: float) -> Deployment:
    total = 0.0
    for deployment in deployments:
        total += deployment.weight
    if not total > 0:
        return deployments[int(draw * len(deployments))]
    left = draw * total
    for deployment in deployments:
        left -= deployment.weight
        if left < 0:
            return deployment
    return max(deployments, key=_weight)  # the sum was rounded up


def _weight(deployment: Deployment) -> float:
    return deployment.weight

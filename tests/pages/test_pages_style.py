"""The colours can be read in light and in dark."""

from __future__ import annotations

import re

import pytest

from stillhouse.pages.style import STYLE


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def schemes() -> list[dict[str, str]]:
    roots = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", root)) for root in roots]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("color", ["ink", "muted", "student", "teacher"])
@pytest.mark.parametrize("ground", ["paper", "card"])
def test_text_stands_out_from_its_ground(scheme: int, color: str, ground: str) -> None:
    colors = schemes()[scheme]
    assert contrast(colors[color], colors[ground]) >= 4.5


def test_light_and_dark_name_the_same_colours() -> None:
    light, dark = schemes()
    assert light.keys() == dark.keys()
    assert not {name for name in light if light[name] == dark[name]}


def test_every_colour_that_is_used_is_named() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    named = set(re.findall(r"--([\w-]+):", STYLE))
    assert used == named

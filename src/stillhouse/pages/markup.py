"""Builds elements so that text can never become markup: what is not `Markup` is escaped.

>>> tag("p", "1 < 2 & ", tag("b", "true"), class_="note")
'<p class="note">1 &lt; 2 &amp; <b>true</b></p>'
"""

from __future__ import annotations

import re
from html import escape

_VOID = frozenset({"br", "meta", "wbr"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already; joined to a plain string it becomes plain, and is escaped."""

    __slots__ = ()


def text(plain: str) -> Markup:
    """Escape text for element content and quoted attributes.

    Characters that no XML document may hold, lone surrogates among them, become U+FFFD, since
    recorded prompts hold anything.

    >>> text('<img src="x">')
    '&lt;img src=&quot;x&quot;&gt;'
    """
    return Markup(escape(_UNPRINTABLE.sub("\ufffd", plain)))


def group(*parts: str) -> Markup:
    """Join parts side by side, escaping those that are plain strings."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Write one element; `stroke_width=2` becomes `stroke-width="2"`, None leaves it out.

    >>> tag("rect", x=1.23456, class_="bar", id=None)
    '<rect x="1.23" class="bar"></rect>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{group(*children)}</{name}>")


def _value(value: str | float) -> str:
    """Attribute text: coordinates to a hundredth of a pixel, so that the page stays small."""
    if isinstance(value, str):
        return text(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")

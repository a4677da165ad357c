"""What a version may be asked: requests like those it has learnt from, the rest is the teacher's.

Looked at before every question to a student, so it costs microseconds and the standard library.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from stillhouse.core.serving import InputRange

LEAST_SHARE = 0.01
"""Of the rows learnt from must hold a writing system before it counts as learnt."""

MOST_CHARACTERS = 2**15
"""Of a text for a student: a longer one would keep it from answering others in time."""

_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_SCRIPTS = {"CJK": "han", "IDEOGRAPHIC": "han"}
_SIGNS = frozenset("µªº")
_LETTERLIKE = range(0x2100, 0x2150)
_PLAIN = ("latin",)


def learnt_range(texts: Sequence[str], images: bool = False, tools: bool = False) -> InputRange:
    """What the rows of training cover; `images` and `tools` say whether their requests had any.

    A writing system counts where at least one row in a hundred holds it: of fewer, nothing is
    learnt. Of further requests like these n rows, one in n + 1 at most is longer than all of them.

    >>> learnt_range(["Where is my card?", "Wo ist sie?"])
    InputRange(longest=17, scripts=('latin',), images=False, tools=False)
    """
    holding = Counter(script for text in texts for script in scripts_of(text))
    least = LEAST_SHARE * len(texts)
    scripts = tuple(sorted(script for script, rows in holding.items() if rows >= least))
    longest = min(max(map(len, texts), default=0), MOST_CHARACTERS)
    return InputRange(longest, scripts, images, tools)


def in_range(inputs: InputRange, text: str, images: bool, tools: bool) -> str:
    """Why a version may not be asked about a request, in a few words; empty where it may.

    An InputRange of nothing learnt lets nothing through but the empty text.

    >>> learnt = learnt_range(["Where is my card?"])
    >>> in_range(learnt, "My card?", images=False, tools=False)
    ''
    >>> in_range(learnt, "Где карта?", images=False, tools=False)
    'written in cyrillic'
    """
    if images and not inputs.images:
        return "carries images, none were learnt from"
    if tools and not inputs.tools:
        return "carries tools, none were learnt from"
    if len(text) > inputs.longest:
        return "longer than anything learnt from"
    foreign = [script for script in scripts_of(text) if script not in inputs.scripts]
    return f"written in {' and '.join(foreign)}" if foreign else ""


def scripts_of(text: str) -> tuple[str, ...]:
    """The writing systems of a text's letters, sorted, by the names that Unicode gives them.

    Numbers, punctuation, emoji, combining marks and signs such as µ belong to none.

    >>> scripts_of("Call 3 € 🙂"), scripts_of("42!"), scripts_of("東京 and Москва")
    (('latin',), (), ('cyrillic', 'han', 'latin'))
    """
    if text.isascii():
        # Letters are all that differs between the cases.
        return _PLAIN if text.lower() != text or text.upper() != text else ()
    return tuple(sorted({script for sign in set(text) if (script := _script(sign))}))


@lru_cache(maxsize=8192)
def _script(sign: str) -> str:
    """The writing system of one character; empty for what is no letter."""
    category = unicodedata.category(sign)
    if category[0] != "L" or category == "Lm" or sign in _SIGNS or ord(sign) in _LETTERLIKE:
        return ""
    words = unicodedata.name(sign, "UNNAMED").replace("-", " ").split()
    first = words[1] if words[0] in _WIDTHS and len(words) > 1 else words[0]
    return _SCRIPTS.get(first, first.lower())

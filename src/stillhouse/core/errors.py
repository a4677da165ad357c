"""Every error that a caller may see. Adapters translate into these at their border.

StillhouseError
├── CallerError     what was asked for cannot be read or does not exist  (exit code 2, HTTP 4xx)
├── ConfigError     the configuration contradicts itself                 (exit code 2)
├── StoreError      the database cannot be used                          (exit code 2)
└── ProviderError   an upstream model failed
    └── UpstreamError   ... and this is how: refused, timed out, cut off
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillhouse.core.calls import Fate


class StillhouseError(Exception):
    """A failure said in one sentence: the thing, the value seen, the remedy."""


class CallerError(StillhouseError):
    """The input or the request is wrong, and the caller can put it right."""


class ConfigError(StillhouseError):
    """A setting is missing or contradicts another one."""


class StoreError(StillhouseError):
    """The database cannot be opened, read or written."""


class ProviderError(StillhouseError):
    """An upstream model answered with an error, or not at all."""


class UpstreamError(ProviderError):
    """A call upstream ended without a whole answer; `fate` says how, the text for people.

    The text never holds a header, a key or a body.
    """

    def __init__(self, fate: Fate, sentence: str) -> None:
        super().__init__(sentence)
        self.fate = fate

"""Where each wire format is served, where an upstream expects it, and how its usage counts.

An upstream's base URL ends in its version (`https://api.anthropic.com/v1`), as the OpenAI SDK has
it; the path that follows is the same for all who speak the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stillhouse.core.catalogue import Wire

UPSTREAM_PATH: Mapping[Wire, str] = MappingProxyType(
    {
        Wire.CHAT: "/chat/completions",
        Wire.RESPONSES: "/responses",
        Wire.EMBEDDINGS: "/embeddings",
        Wire.MESSAGES: "/messages",
        Wire.DECISIONS: "/decisions",
        Wire.SYSTEMONE: "/systemone",
    }
)
"""What follows an upstream's base URL."""

SERVED: Mapping[str, Wire] = MappingProxyType(
    {f"/v1{path}": wire for wire, path in UPSTREAM_PATH.items()}
)
"""The wire format spoken at each served path.

>>> SERVED["/v1/messages"].value
'messages'
"""

MODELS_PATH = "/v1/models"
COUNT_TOKENS_PATH = "/v1/messages/count_tokens"
UPSTREAM_COUNT_TOKENS_PATH = "/messages/count_tokens"

USAGE_DIALECT: Mapping[Wire, str] = MappingProxyType(
    {
        Wire.CHAT: "openai",
        Wire.EMBEDDINGS: "openai",
        Wire.RESPONSES: "responses",
        Wire.MESSAGES: "anthropic",
        Wire.DECISIONS: "responses",
        Wire.SYSTEMONE: "responses",
    }
)
"""By whose rules `ledger.usage.decompose` reads the usage object of each wire format.

Decision endpoints name their totals as Responses does; System One leaves the details out.
"""

STREAMED: frozenset[Wire] = frozenset({Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES})
"""The wire formats that can answer as a stream of events."""

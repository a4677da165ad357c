"""Tables of access: virtual keys, counters of quotas, leases of workers."""

from __future__ import annotations

ACCESS = ""
"""Migration 4."""

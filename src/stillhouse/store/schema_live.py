"""Tables of live traffic: what an attempt met on the wire, savings, how far journals are folded."""

from __future__ import annotations

LIVE = ""
"""Migration 3."""

"""Stillhouse keeps the books on AI spend, and distils the repetitive part of it."""

__version__ = "0.1.0"

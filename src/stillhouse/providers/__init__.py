"""Speaks to models over the wire, or answers in their place from a record or a script."""

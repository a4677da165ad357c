"""Turns answered traffic into tasks, datasets and a ladder of attempts to distil them."""

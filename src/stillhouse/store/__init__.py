"""Keeps what happened and invents nothing: traffic, books, tasks, students in one SQLite file."""

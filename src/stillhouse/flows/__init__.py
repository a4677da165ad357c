"""The hall: each story told once, from top to bottom; it decides nothing and does no I/O itself."""

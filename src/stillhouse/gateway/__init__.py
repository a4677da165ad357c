"""The only door: wire formats in, answers out; keys, limits, metrics and the admin API."""

"""The nouns and Protocols: standard library only, no behaviour beyond their own invariants."""

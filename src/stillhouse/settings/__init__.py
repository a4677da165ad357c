"""All configuration: one TOML file and the environment, checked and turned into nouns."""

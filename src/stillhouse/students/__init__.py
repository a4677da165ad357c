"""One student kind per file, and the encoders they stand on."""

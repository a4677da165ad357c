"""All configuration: one readable file and the environment, checked whole before it counts."""

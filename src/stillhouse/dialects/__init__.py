"""Wire formats, pure: what a body says, how it is said in another format, how a failure is told."""

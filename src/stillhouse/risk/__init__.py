"""What may be promised about a student, and when it stops being true: arrays in, facts out."""

"""A reading's way out: checked, kept over restarts, repeated at night."""

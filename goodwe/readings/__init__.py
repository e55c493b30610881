"""A reading's way out: judged, kept over restarts, repeated at night."""

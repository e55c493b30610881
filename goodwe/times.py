"""The one word about time that every floor shares."""

NEVER = float("inf")
"""The deadline, in seconds, of what has nothing to do."""

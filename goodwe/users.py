"""Users of this machine, by their numbers."""

import pwd


def name_of(number: int) -> str:
    """The name of the user with that number; the number where it has none, as in a container."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)

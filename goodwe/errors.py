"""Every error of ours, and whose job it is to mend it.

GoodWeError
  ConfigError   the file is wrong: where, what, what would be right       -> terminal, exit 2
  StartError    the program cannot begin: a log file, a library           -> terminal, exit 1
  DeviceError   no permission, not an inverter, reports we do not know    -> logged, tried again
  InstallError  a step of `install` that cannot be done: why, and what mends it -> terminal, exit 1
  RestartError  something that only a new process is allowed              -> goodbye, exit 1, started again
  HistoryError  the history cannot be read or written now                 -> logged, tried again
    NoHistoryError  there is none yet
  FieldError    a payload that is not what its function code promises     -> counted, never published

A cable that is pulled is not in this tree: it is an OSError to the link and an Offline to the world.
"""

NOT_A_REQUEST = "not a request"
"""Begins what the control socket says of a request that it does not know (CONTRACT 9)."""
MAY_NOT_READ = "run this with sudo, or let your group read it (chgrp, chmod 640)"
"""The remedy for a file that this user may not read."""


class GoodWeError(Exception):
    """Base of all our errors; its text is one line for a person to act on."""


class ConfigError(GoodWeError):
    """A mistake in the configuration file."""

    def __init__(
        self, message: str, *, line: int = 0, meant: tuple[str, str] | None = None, droppable: bool = False
    ) -> None:
        """`message` is for a person; `line` is the number of the line that is wrong, 0 if not known.

        `meant` has a name in that line that is probably misspelt, and the one that there is. `droppable` is
        True if the file is right without that line, and says no less of what its owner wants.
        """
        super().__init__(message)
        self.line = line
        self.meant = meant
        self.droppable = droppable


class StartError(GoodWeError):
    """Something the program cannot begin without."""


class InstallError(GoodWeError):
    """A step of `install` or `uninstall` that this machine does not let us do."""


class DeviceError(GoodWeError):
    """A device node that cannot serve as an inverter's wire now."""


class RestartError(GoodWeError):
    """The program is to end, so that whoever watches it starts it again."""


class HistoryError(GoodWeError):
    """A history that cannot be read or written now."""


class NoHistoryError(HistoryError):
    """There is no history yet."""


class FieldError(GoodWeError):
    """A payload with the wrong length or impossible content."""

    def __init__(self, reason: str, detail: str) -> None:
        """`reason` is counted, `detail` is for the log."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """The counter this goes under, a few words that do not vary."""
        self.detail = detail

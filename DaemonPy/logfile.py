"""A log file as daemons need it: moved away by others, on a full disk, in a folder that may vanish."""

import logging
import os
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler


class LogFile(WatchedFileHandler):
    """Where the file cannot be written for a while, lines are lost, and nothing else."""

    _was_open = False

    def __init__(self, path: str) -> None:
        """`path` is the file's. Raises OSError when it cannot be opened now."""
        super().__init__(path, encoding="utf-8")
        self._was_open = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, to a new file if this one is gone from its path."""
        try:
            super().emit(record)
        except (OSError, ValueError):  # it opens a file that has moved, outside the care that logging takes
            self._forget_closed_stream()
            self.handleError(record)

    def reopen(self) -> None:
        """Look at the path again, as the next line would."""
        try:
            self.reopenIfNeeded()
        except (OSError, ValueError):
            self._forget_closed_stream()

    def _open(self) -> TextIOWrapper:
        try:
            return super()._open()
        except FileNotFoundError:
            if not self._was_open:
                raise
            # The folder was there when we began: another file system is over it now, perhaps an empty one.
            os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
            return super()._open()

    def _forget_closed_stream(self) -> None:
        """A close that fails closes all the same; without a stream, the next line opens the file again."""
        if self.stream is not None and self.stream.closed:
            self.stream = None

"""A log file as daemons need it: moved away by others, on a full disk, in a folder that may vanish."""

import contextlib
import logging
import os
from io import TextIOWrapper


class LogFile(logging.FileHandler):
    """Where the file cannot be written for a while, lines are lost, and nothing else.

    It follows its path as WatchedFileHandler does. That one is in logging.handlers, which loads pickle,
    sockets and queues: half a megabyte, kept for as long as the daemon runs.
    """

    _was_open = False

    def __init__(self, path: str) -> None:
        """`path` is the file's. Raises OSError when it cannot be opened now."""
        super().__init__(path, encoding="utf-8")
        self._was_open = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, to a new file if this one is gone from its path."""
        try:
            self._follow_path()
            super().emit(record)
        except OSError:  # it opens a file that has moved, outside the care that logging takes
            self.handleError(record)

    def reopen(self) -> None:
        """Look at the path again, as the next line would."""
        self.acquire()  # as emit() is called; another thread may log now
        try:
            with contextlib.suppress(OSError):  # the next line tries it again
                self._follow_path()
        finally:
            self.release()

    def _follow_path(self) -> None:
        """Open the file that is at the path, if it is another one by now. Raises OSError."""
        if self.stream is None or self._is_at_path(self.stream):
            return
        # Gone first: a close that fails closes all the same, and without a stream the next line opens one.
        moved, self.stream = self.stream, None
        moved.close()
        self.stream = self._open()

    def _is_at_path(self, stream: TextIOWrapper) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), os.stat(self.baseFilename))
        except (OSError, ValueError):  # gone, out of reach, or the stream is closed
            return False

    def _open(self) -> TextIOWrapper:
        try:
            return super()._open()
        except FileNotFoundError:
            if not self._was_open:
                raise
            # The folder was there when we began: another file system is over it now, perhaps an empty one.
            os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
            return super()._open()

"""A log file as daemons need it: moved away by others, on a full disk, in a folder that may vanish."""

import contextlib
import logging
import os
from io import TextIOWrapper

log = logging.getLogger(__name__)


class LogFile(logging.FileHandler):
    """Where the file cannot be written for a while, lines are lost, and nothing else.

    It follows its path as WatchedFileHandler does. That one is in logging.handlers, which loads pickle,
    sockets and queues: half a megabyte, kept for as long as the daemon runs.
    """

    _was_open = False
    _told_denied = False

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
            self._told_denied = False
            return
        if self._may_not_open():
            self._tell_denied()
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

    def _tell_denied(self) -> None:
        """Say once, in the file that is open, why it is not the one at the path."""
        if not self._told_denied:
            self._told_denied = True
            log.warning(
                "permission denied to open %s anew, so this goes on in the file that was moved away;"
                " `create` in the lines of logrotate makes a new one for the same owner",
                self.baseFilename,
            )

    def _may_not_open(self) -> bool:
        try:
            os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except PermissionError:
            return True
        except OSError:  # it is said where it is opened
            return False
        return False

    def fileno(self) -> int:
        """The descriptor of the file; -1 while it cannot be opened."""
        return -1 if self.stream is None else self.stream.fileno()

    def move(self, path: str) -> None:
        """Log to the file at another path from now on. Raises OSError, and goes on with this one."""
        self.acquire()
        try:
            before, self.baseFilename = self.baseFilename, os.path.abspath(path)
            try:
                stream = self._open()
            except OSError:
                self.baseFilename = before
                raise
            old, self.stream = self.stream, stream
            if old is not None:
                old.close()
        finally:
            self.release()

    def _open(self) -> TextIOWrapper:
        try:
            return super()._open()
        except FileNotFoundError:
            if not self._was_open:
                raise
            # The folder was there when we began: another file system is over it now, perhaps an empty one.
            os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
            return super()._open()

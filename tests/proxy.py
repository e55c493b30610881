"""A TCP proxy that the tests put between program and broker, and that misbehaves on demand."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable


class Proxy:
    """Forwards to a port of this machine until it is told to do otherwise."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.stalled_up = self.stalled_down = False
        """True for what is kept back: of the program's, of the broker's."""
        self.holds_newcomers = False
        """True while new connections are taken and nothing more: they stay so, whatever happens later."""
        self.held: list[socket.socket] = []
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        threading.Thread(target=self._serve, daemon=True).start()

    def stall(self) -> None:
        """Both ways: the connection stands and nothing gets through, as behind a dead router."""
        self.stalled_up = self.stalled_down = True

    def flow(self) -> None:
        """Forward again, what was kept back too."""
        self.stalled_up = self.stalled_down = False

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for pair in self._take():
            for end in pair:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def half_close(self) -> None:
        """The broker's side has said all that it will say, and says nothing of ours."""
        for program, _ in self._pairs:
            with contextlib.suppress(OSError):  # one of earlier
                program.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        for held in self.held:
            held.close()
        self.cut()

    def _take(self) -> list[tuple[socket.socket, socket.socket]]:
        taken, self._pairs = self._pairs, []
        return taken

    def _serve(self) -> None:
        while not self._closed:
            try:
                if select.select([self._listener], [], [], 0.1)[0]:
                    self._accept()
            except (OSError, ValueError):
                return

    def _accept(self) -> None:
        program, _ = self._listener.accept()
        if self.holds_newcomers:
            self.held.append(program)
            return
        try:
            broker = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            program.close()
            return
        self._pairs.append((program, broker))
        for source, sink, is_stalled in (
            (program, broker, lambda: self.stalled_up),
            (broker, program, lambda: self.stalled_down),
        ):
            threading.Thread(target=self._forward, args=(source, sink, is_stalled), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_stalled: Callable[[], bool]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                if not select.select([source], [], [], 0.02)[0]:  # ValueError once it is closed
                    continue
                if is_stalled():  # asked after the bytes came: none of those sent since stall() may pass
                    select.select([], [], [], 0.01)
                    continue
                chunk = source.recv(4096)
                if not chunk:
                    with contextlib.suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(chunk)

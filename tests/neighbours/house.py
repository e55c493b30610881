"""Our side of it: the simulated inverter and the real program between it and a broker."""

import datetime
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from goodwe.history import archive, madeup, schema
from goodwe.history.recorder import Happened

from .. import in_step

GOODWE = str(Path(__file__).parents[2] / "GoodWe.py")
SERIAL = "15000SIM268W0001"
PATIENCE = 30.0


class House:
    """Simulator and program as processes, with their files in a folder."""

    def __init__(
        self, servers: str, port: int, *, mqtt: str = "", inverter: str = "", history: bool = False
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="goodwe-house-"))
        self._socket = self._folder / "inv.sock"
        self._config = self._folder / "goodwe.conf"
        self._before = in_step.COMMAND if history else []
        self._config.write_text(
            f"[inverter]\ndevice = unix:{self._socket}\nstatefile = {self._folder}/state.json\n{inverter}"
            f"[mqtt]\nserver = {servers}\nport = {port}\n{mqtt}"
            + (f"[history]\nfile = {self._folder}/history.db\n" if history else "")
        )
        self._simulator: subprocess.Popen[bytes] | None = None
        self._program: subprocess.Popen[bytes] | None = None

    def plug(self, *options: str) -> None:
        """The inverter is there, at noon unless `options` of simulate say otherwise."""
        command = [sys.executable, GOODWE, "simulate", "--listen", f"unix:{self._socket}", *options]
        self._simulator = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def make_up_years(self) -> None:
        """Three of them, until yesterday, and a fault of an hour ago that has not ended."""
        path = str(self._folder / "history.db")
        today = datetime.date.today()
        madeup.write(path, [madeup.MadeUpRoof(SERIAL)], until=today, days=3 * 365, with_slots=0)
        connection = archive.connected(path)
        number = archive.number_of(connection, SERIAL, 0.0)
        archive.put_event(connection, number, Happened(time.time() - 3600, SERIAL, schema.FAULT_ON, 9, ""))
        connection.close()

    def unplug(self) -> None:
        self._end(self._simulator)
        self._simulator = None

    def start(self) -> "House":
        with (self._folder / "log").open("ab") as log:
            command = [*self._before, sys.executable, GOODWE, "--config", str(self._config)]
            command += ["--pidfile", str(self._folder / "pid"), "foreground"]
            self._program = subprocess.Popen(command, stderr=log)
        return self

    def kill(self) -> None:
        """kill -9: it says nothing to anybody."""
        assert self._program is not None
        self._program.kill()
        self._program.wait(PATIENCE)
        self._program = None

    @property
    def log(self) -> str:
        file = self._folder / "log"
        return file.read_text() if file.exists() else "it was not started"

    def stop(self) -> None:
        self._end(self._program)
        self.unplug()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, process: "subprocess.Popen[bytes] | None") -> None:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)

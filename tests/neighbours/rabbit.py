"""Three RabbitMQ nodes of one cluster on loopback, with the MQTT plugin, on 127.0.0.1 to 127.0.0.3."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from ..broker import free_port, wait_for

PATIENCE = 120.0
PROGRAMS = Path("/usr/lib/rabbitmq/bin")


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


class Node:
    """One of them. Each has a folder, an address and a name of its own, also beside another cluster on this machine."""

    def __init__(self, number: int, folder: Path, mqtt_port: int, nodes: int) -> None:
        names = [f"goodwe{n}-{mqtt_port}@localhost" for n in range(1, nodes + 1)]
        self.name = names[number - 1]
        self.host = f"127.0.0.{number}"
        self._mqtt_port = mqtt_port
        self._folder = folder / f"node{number}"
        self._folder.mkdir()
        self._amqp_port, self._dist_port = free_port(), free_port()
        seeds = "".join(
            f"cluster_formation.classic_config.nodes.{n} = {name}\n" for n, name in enumerate(names, 1)
        )
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.host}:{self._amqp_port}\n"
            f"mqtt.listeners.tcp.1 = {self.host}:{mqtt_port}\n"
            "mqtt.allow_anonymous = true\nmqtt.default_user = guest\nmqtt.default_pass = guest\n"
            "loopback_users = none\nlog.file.level = warning\n"
            f"cluster_formation.peer_discovery_backend = classic_config\n{seeds}"
        )
        (self._folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment that RabbitMQ's programs want."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder.parent),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
            "ERL_CRASH_DUMP": os.devnull,
        }

    @property
    def log(self) -> str:
        """The end of its log."""
        files = sorted((self._folder / "log").glob("*.log"))
        return "\n".join(file.read_text(errors="replace")[-60000:] for file in files)

    def begin(self) -> None:
        """Start it; `wait()` for it to serve."""
        log = (self._folder / "output").open("ab")
        with log:
            self._process = subprocess.Popen(
                [str(PROGRAMS / "rabbitmq-server")],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it takes MQTT connections."""
        try:
            wait_for(lambda: _listens(self.host, self._mqtt_port), f"{self.name} serves MQTT", PATIENCE)
        except AssertionError as error:
            last = "\n".join((self._folder / "output").read_text(errors="replace").splitlines()[-20:])
            raise AssertionError(f"{error}; its last words:\n{last}") from error

    def kill(self) -> None:
        """As a power cut would: it says nothing to anybody."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None


class Cluster:
    """Some nodes that know each other."""

    def __init__(self, nodes: int = 3) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="goodwe-rabbit-"))
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text("goodwe-neighbours")
        cookie.chmod(0o400)
        self.port = free_port()
        self.nodes = [Node(number, self._folder, self.port, nodes) for number in range(1, nodes + 1)]

    @property
    def servers(self) -> str:
        """For `server` in the configuration."""
        return ", ".join(node.host for node in self.nodes)

    @property
    def log(self) -> str:
        """The newest lines of the nodes' logs."""
        return "\n".join(node.log for node in self.nodes)

    def start(self) -> "Cluster":
        # The first alone: three that begin at once may each found a cluster of its own.
        for node in self.nodes:
            node.begin()
            node.wait()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

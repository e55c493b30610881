"""A real Home Assistant in a small Debian of its own, for it needs a newer Python than most machines have."""

import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from ..broker import free_port, wait_for

VERSION = "2026.11.0"
SUITE = "forky"
BUILD_WITHIN = 1200.0
START_WITHIN = 180.0
USER, PASSWORD = "me", "secret"
NOT_FROM_SOURCE = ["--only-binary", ":all:", "--no-binary", "pyric"]
"""A compiler is not in there; pyric alone has no wheel, and is pure Python."""


WANT_A_COMPILER = "pymicro-vad,pyspeex-noise"
"""For speech. It installs what its integrations need when it starts; these it would try to build each time."""


class NeighbourError(Exception):
    """A neighbour cannot be had; the text says what to do."""


def root() -> Path:
    """The folder with Debian and Home Assistant in it; built at the first time."""
    recipe = repr((VERSION, SUITE, NOT_FROM_SOURCE))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goodwe-neighbours"
    folder = base / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if not (folder / "complete").exists():
        print(f"building a Debian {SUITE} with Home Assistant {VERSION}, once ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        base.mkdir(parents=True, exist_ok=True)
        _build(folder)
        (folder / "complete").touch()
    return folder


def _build(folder: Path) -> None:
    # A mirror may be some weeks behind, and the testing suite is signed for one week only.
    options = ["--variant=apt", '--aptopt=Acquire::Check-Valid-Until "false"']
    packages = "python3,python3-venv,ca-certificates"
    _run(["mmdebstrap", *options, f"--include={packages}", SUITE, str(folder)])
    _copy_certificates(folder)
    for command in (
        ["python3", "-m", "venv", "/ha"],
        ["/ha/bin/pip", "install", "-q", "uv"],
        ["/ha/bin/pip", "download", "-q", "--no-deps", "-d", "/tmp", f"homeassistant=={VERSION}"],
        ["python3", "-m", "zipfile", "-e", f"/tmp/homeassistant-{VERSION}-py3-none-any.whl", "/tmp/wheel"],
        [
            *("/ha/bin/uv", "pip", "install", "-q", "--python", "/ha/bin/python", *NOT_FROM_SOURCE),
            *(
                "-c",
                "/tmp/wheel/homeassistant/package_constraints.txt",
                f"homeassistant=={VERSION}",
                "paho-mqtt",
            ),
        ],
    ):
        _run([*_inside(folder), *command], env=_environment())


def _copy_certificates(folder: Path) -> None:
    """Copy the authorities that this machine trusts, beside Debian's: a network of its own may need them."""
    own = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(own):
        shutil.copy(own, folder / "etc/ssl/certs/ca-certificates.crt")
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")


def _inside(folder: Path) -> list[str]:
    """The beginning of a command that is run in there; its mounts end with it."""
    mounts = f'mount -t proc proc {folder}/proc; mount --rbind /dev {folder}/dev; exec chroot {folder} "$@"'
    return ["unshare", "--mount", "sh", "-c", mounts, "sh"]


def _environment() -> dict[str, str]:
    passed = {
        key: text
        for key, text in os.environ.items()
        if key.startswith(("PIP_", "UV_")) or "proxy" in key.lower()
    }
    passed.pop("PIP_FIND_LINKS", None)
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    passed |= {"PIP_CERT": certificates} if "PIP_CERT" in passed else {}
    return {
        **passed,
        "PATH": "/ha/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/root",
        "SSL_CERT_FILE": certificates,
    }


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_WITHIN, **options)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise NeighbourError(f"{' '.join(command[-6:])} failed:\n{last}")


class Home:
    """One running Home Assistant, with an MQTT integration and nothing else of ours."""

    def __init__(self, broker: str, port: int, *, protocol: str) -> None:
        """`broker` and `port` are those of its MQTT integration, `protocol` 3.1.1 or 5."""
        self._root = root()
        (self._root / "homes").mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=self._root / "homes"))
        self._inside = "/" + str(self._folder.relative_to(self._root))
        self._port = free_port()
        self._broker = {"broker": broker, "port": port, "protocol": protocol}
        self._token = ""
        self._process: subprocess.Popen[bytes] | None = None
        (self._folder / "configuration.yaml").write_text("api:\nconfig:\nlogger:\n  default: warning\n")
        (self._folder / ".storage").mkdir()
        (self._folder / ".storage" / "http").write_text(json.dumps(self._http()))

    def start(self) -> "Home":
        """For the first time: with a user and the MQTT integration, as a person would set them up."""
        _run(
            [
                *_inside(self._root),
                "/ha/bin/hass",
                "--script",
                "auth",
                "-c",
                self._inside,
                "add",
                USER,
                PASSWORD,
            ],
            env=_environment(),
        )
        self._begin()
        flow = self._call("POST", "/api/config/config_entries/flow", {"handler": "mqtt"})
        other = {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"}
        path = f"/api/config/config_entries/flow/{flow['flow_id']}"
        made = self._call("POST", path, {**self._broker, "other_settings": other})
        assert made["type"] == "create_entry", made
        return self

    def restart(self) -> None:
        """As after an update; everything it had not written down is gone."""
        self._end()
        self._begin()

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def states(self) -> dict[str, dict[str, Any]]:
        """Entity to what it shows, of those that MQTT has brought."""
        return {
            state["entity_id"]: state
            for state in self._call("GET", "/api/states")
            if "goodwe" in state["entity_id"]
        }

    def state(self, name: str) -> str:
        """The state that the entity with this ending shows; empty while there is none."""
        found = [state["state"] for entity, state in self.states().items() if entity.endswith(name)]
        return str(found[0]) if found else ""

    def call(self, domain: str, service: str, **data: Any) -> None:
        """Do what a press on a button does."""
        self._call("POST", f"/api/services/{domain}/{service}", data)

    @property
    def log(self) -> str:
        return (self._folder / "output.log").read_text(errors="replace")

    @property
    def troubles(self) -> list[str]:
        """Warnings and errors of its log that are about MQTT, sensors or us."""
        words = ("mqtt", "goodwe", "sensor", "template", "recorder")
        lines = [line for line in self.log.splitlines() if " WARNING " in line or " ERROR " in line]
        return [line for line in lines if any(word in line.lower() for word in words)]

    def _http(self) -> dict[str, Any]:
        """Where it listens, as confirmed by a person: of an address in its YAML it thinks better after 5 min."""
        stable = {
            "server_host": ["127.0.0.1"],
            "server_port": self._port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "intermediate_v6",
            "use_x_frame_options": True,
            "created_at": "2026-11-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
        }
        data = {"stable": stable, "pending": None, "yaml_migration_done": True}
        return {"version": 3, "minor_version": 1, "key": "http", "data": data}

    def _begin(self) -> None:
        command = [*_inside(self._root), "/ha/bin/hass", "-c", self._inside]
        command += ["--skip-pip-packages", WANT_A_COMPILER]
        with (self._folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=_environment(), start_new_session=True
            )
        wait_for(self._answers, "Home Assistant answers", START_WITHIN)
        self._token = self._log_in()
        wait_for(
            lambda: self._call("GET", "/api/config")["state"] == "RUNNING", "it has started", START_WITHIN
        )

    def _end(self) -> None:
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3000:]
        try:
            self._open("GET", "/api/", None)
        except urllib.error.HTTPError:  # it wants us to log in
            return True
        except OSError:
            return False
        return True

    def _log_in(self) -> str:
        client = {"client_id": f"http://127.0.0.1:{self._port}/"}
        started = {**client, "handler": ["homeassistant", None], "redirect_uri": client["client_id"]}
        flow = self._call("POST", "/auth/login_flow", started)
        path = f"/auth/login_flow/{flow['flow_id']}"
        code = self._call("POST", path, {**client, "username": USER, "password": PASSWORD})["result"]
        form = urllib.parse.urlencode({**client, "grant_type": "authorization_code", "code": code}).encode()
        return str(self._open("POST", "/auth/token", form)["access_token"])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            return self._open(
                method, path, None if body is None else json.dumps(body).encode(), json_body=True
            )
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error

    def _open(self, method: str, path: str, body: bytes | None, *, json_body: bool = False) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if json_body:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def seconds_until(condition: Any, what: str, patience: float = 30.0) -> float:
    """How long it takes until the condition holds."""
    began = time.monotonic()
    wait_for(condition, what, patience)
    return time.monotonic() - began

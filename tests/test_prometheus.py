"""The metrics, looked at by Prometheus itself: its checks, and what it has scraped of two inverters."""

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from .broker import PATIENCE, free_port, wait_for
from .test_program import GOODWE, ROOT

ROOF, BARN = "15000SIM268W0001", "15000SIM268W0002"
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="no prometheus on this machine: NOT CHECKED are the metrics' form, names and staleness",
)


class Plant:
    """Two simulators, the program, and a Prometheus that scrapes it each second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.prometheus = free_port(), free_port()
        self._running: list[subprocess.Popen[bytes]] = []
        self.roofs = [self._simulate(folder / f"{serial}.sock", serial) for serial in (ROOF, BARN)]
        (folder / "t.conf").write_text(
            f"[inverter]\nstatefile = {folder}/state.json\npollinterval = 500\n[mqtt]\nenabled = off\n"
            f"[web]\nlisten = 127.0.0.1:{self.port}\nmetrics = on\n"
        )
        sockets = [str(folder / f"{serial}.sock") for serial in (ROOF, BARN)]
        self._run("program", sys.executable, "-m", "tests.two_roofs", str(folder / "t.conf"), *sockets)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: goodwe\n  static_configs:\n"
            f"  - targets: ['127.0.0.1:{self.port}']\n"
        )
        self._run(
            "prometheus",
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.prometheus}",
        )

    def _run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        self._running.append(process)
        return process

    def _simulate(self, path: Path, serial: str) -> subprocess.Popen[bytes]:
        options = ("--listen", f"unix:{path}", "--serial", serial, "--start", "12:00")
        return self._run(serial, sys.executable, GOODWE, "simulate", *options)

    def text(self) -> bytes:
        return _get(f"http://127.0.0.1:{self.port}/metrics")

    def scraped(self, query: str) -> dict[str, float]:
        """By serial: what Prometheus knows now."""
        address = (
            f"http://127.0.0.1:{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        )
        try:
            found = json.loads(_get(address))["data"]["result"]
        except OSError:
            return {}
        return {one["metric"].get("serial", ""): float(one["value"][1]) for one in found}

    def end(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            process.wait(PATIENCE)


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path)
    yield plant
    plant.end()


@needs_prometheus
def test_prometheus_takes_them_and_nothing_is_frozen_when_an_inverter_goes(plant):
    power = "goodwe_inverter_ac_power_watts"
    wait_for(lambda: set(plant.scraped(power)) == {ROOF, BARN}, "both are scraped", 60)
    checked = subprocess.run(["promtool", "check", "metrics"], input=plant.text(), capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert all(watts > 0 for watts in plant.scraped(power).values())
    joules = plant.scraped("goodwe_inverter_energy_joules_total")
    assert all(4e9 < energy < 1e12 for energy in joules.values())
    assert plant.scraped("up") == {"": 1.0}
    assert plant.scraped("goodwe_build_info") == {"": 1.0}
    plant.roofs[1].terminate()
    wait_for(lambda: set(plant.scraped(power)) == {ROOF}, "the one that is gone is absent", 30)
    for flow in ("ac_voltage_volts", "ac_frequency_hertz", "dc_voltage_volts", "temperature_celsius"):
        assert set(plant.scraped(f"goodwe_inverter_{flow}")) == {ROOF}, flow
    assert plant.scraped("goodwe_inverter_up") == {ROOF: 1.0, BARN: 0.0}
    assert plant.scraped("goodwe_inverter_energy_joules_total")[BARN] >= joules[BARN]
    ages = plant.scraped("time() - goodwe_inverter_last_reading_timestamp_seconds")
    assert ages[ROOF] < 5
    wait_for(
        lambda: ROOF in plant.scraped("rate(goodwe_readings_total[30s]) > 0"), "readings are counted", 30
    )
    before = ages[BARN]
    time.sleep(2.1)  # Prometheus is the subject: it scrapes each second
    assert plant.scraped("time() - goodwe_inverter_last_reading_timestamp_seconds")[BARN] > before + 1

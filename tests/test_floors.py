"""Imports go down: the floors of CONTRIBUTING.md, held against the code."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    ["times"],
    ["errors", "events", "tally", "protocol", "protocol.frame", "protocol.fields", "readings"],
    ["protocol.bus", "protocol.simulator", "protocol.identity", "protocol.texts"],
    ["readings.plausibility", "ladder", "traffic", "recurrences"],
    ["loop", "program", "paths", "memory", "on_demand", "users", "writable"],
    ["transport.wire"],
    ["transport.hidraw"],
    ["transport.udev", "transport.standin"],
    ["transport"],
    ["config.parsers"],
    ["config.options", "config.source"],
    ["config.inverter", "config.rules", "config.edit"],
    ["place", "protocol.scripts", "readings.state", "readings.clock"],
    ["guard", "databases"],
    ["history", "history.dates", "history.scaling", "history.schema"],
    ["history.gaps", "history.queries", "history.spreadsheets"],
    ["history.recorder", "history.soundness", "history.alarms"],
    ["history.days"],
    ["history.archive"],
    ["history.changes", "history.madeup"],
    ["outputs"],
    ["config.file"],
    ["config.documents"],
    ["config.changes"],
    ["config"],
    [
        "outputs.web.settings",
        "outputs.web.markup",
        "outputs.web.words",
        "outputs.web.latest",
        "outputs.web.scale",
    ],
    ["outputs.web.charts", "outputs.web.data", "outputs.web.server"],
    ["outputs.web.pages", "outputs.web.metrics"],
    ["outputs.web.documents", "outputs.web.health"],
    ["outputs.web.site"],
    ["outputs.web.output"],
    ["outputs.mqtt.settings", "outputs.mqtt.payload", "outputs.mqtt.message", "outputs.mqtt.store"],
    ["outputs.mqtt.tls", "outputs.mqtt.backoff", "outputs.mqtt.suspects", "outputs.mqtt.terms"],
    ["outputs.mqtt.client", "outputs.mqtt.advice"],
    ["outputs.mqtt.attempt"],
    ["outputs.mqtt.probe"],
    ["outputs.mqtt.connection", "outputs.mqtt.homeassistant"],
    ["outputs.mqtt.pool"],
    ["outputs.mqtt.feature"],
    [
        "outputs.mqtt.alarms",
        "outputs.mqtt.backlog",
        "outputs.mqtt.commands",
        "outputs.mqtt.discovery",
        "outputs.mqtt.retained",
        "outputs.mqtt.sums",
        "outputs.mqtt.values",
    ],
    ["outputs.mqtt.output"],
    ["link", "readings.ledger", "outputs.mqtt", "outputs.web", "outputs.history"],
    ["snapshot", "control", "instance"],
    ["capture"],
    ["app"],
    ["reload"],
    ["tools", "tools.captures", "tools.client"],
    ["tools.pcapng", "tools.summary", "tools.reload", "tools.tables"],
    ["tools.decode", "tools.status", "tools.fleet", "tools.embedded_broker", "tools.discovery"],
    ["tools.history"],
    ["tools.simulate", "tools.demo_history"],
    ["tools.demo", "tools.replay"],
    ["service"],
    ["tools.doctor.checks", "tools.capture"],
    [f"tools.doctor.{name}" for name in ("broker", "python", "settings", "system", "usb")],
    ["tools.doctor.running", "tools.install.files"],
    ["tools.doctor", "tools.install.system"],
    ["tools.install.steps"],
    ["tools.install"],
    ["tools.setup"],
    ["tools.masking"],
    ["tools.bundle"],
    ["cli"],
    ["tools.fast_clock"],
    ["tools.manual"],
    ["tools.documents"],
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}
SAME_FLOOR = {("events", "protocol.fields"), ("events", "protocol.frame"), ("protocol.fields", "errors")}
PURE = [module for floor in FLOORS[:4] for module in floor] + ["protocol.scripts"]
NO_CLOCK_NO_IO = {"time", "datetime", "os", "socket", "select", "threading", "logging", "subprocess", "io"}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "goodwe").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "goodwe").with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = path
    return found


def imports(path: Path, module: str) -> set[str]:
    """The imports of a file: our own modules as `.name`, others by their first word; types only left out."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    package = module.split(".")[: -1 if path.name != "__init__.py" else None]
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - (node.level - 1)]
            if node.module:
                found.add("." + ".".join([*base, node.module]))
            else:
                for name in node.names:
                    inside = ".".join([*base, name.name])
                    found.add("." + (inside if inside in FLOOR else ".".join(base) or "goodwe"))
    return found


@pytest.mark.parametrize("module", modules())
def test_module_stands_on_a_floor_and_imports_only_from_below(module):
    assert module in FLOOR, "give it a floor here and in CONTRIBUTING.md"
    for name in imports(modules()[module], module):
        if name.startswith(".") and name not in (".goodwe", ".__version__", "."):
            below = name[1:]
            assert FLOOR[below] < FLOOR[module] or (module, below) in SAME_FLOOR, f"{module} imports {below}"


def test_every_module_is_drawn_in_the_house():
    house = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("```")[1]
    names = {module.split(".")[-1] for module in modules()}
    assert names <= set(re.findall(r"\w+", house))


@pytest.mark.parametrize("module", PURE)
def test_protocol_code_has_no_clock_and_no_io(module):
    assert not imports(modules()[module], module) & NO_CLOCK_NO_IO


def test_the_daemon_package_knows_only_the_standard_library():
    for path in (ROOT / "DaemonPy").glob("*.py"):
        for name in imports(path, f"DaemonPy.{path.stem}"):
            assert name.startswith(".DaemonPy") or name in sys.stdlib_module_names, f"{path.name}: {name}"


def test_only_the_service_and_who_looks_at_it_from_outside_know_the_daemon_package():
    knowing = {module for module, path in modules().items() if "DaemonPy" in imports(path, module)}
    assert knowing == {"service", "instance"}


def test_outputs_do_not_import_each_other():
    for module, path in modules().items():
        if module.startswith("outputs."):
            own = ".".join(module.split(".")[:2])
            others = {name[1:] for name in imports(path, module) if name.startswith(".outputs.")}
            assert all(other == own or other.startswith(f"{own}.") for other in others), module


def test_nothing_below_the_outputs_knows_one_of_them():
    """They are found by their sections; only tools, for a person at a terminal, may want one in particular."""
    for module, path in modules().items():
        if not module.startswith(("outputs.", "tools.")) and module not in ("cli", "service"):
            assert not any(name.startswith(".outputs.") for name in imports(path, module)), module


def test_the_daemon_loads_no_tools():
    below = [module for module in modules() if not module.startswith("tools") and module != "cli"]
    assert not any(
        name.startswith(".tools") for module in below for name in imports(modules()[module], module)
    )

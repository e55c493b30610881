"""Wheel, sdist and checkout as pip installs them, also beside the other project's library called `goodwe`."""

import ast
import atexit
import fnmatch
import importlib.metadata
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("GoodWe.py", "goodwe", "DaemonPy", "etc", "tests", ".ci", ".github", "setup.py", "pyproject.toml")
TOP += ("MANIFEST.in", "LICENSE", ".gitignore", ".pre-commit-config.yaml")
THEIRS = {
    "goodwe/__init__.py": "ours = False\n",
    "goodwe/protocol.py": "class UdpInverterProtocol: pass\n",
    "goodwe-0.4.8.dist-info/METADATA": "Metadata-Version: 2.1\nName: goodwe\nVersion: 0.4.8\n",
    "goodwe-0.4.8.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
"""The library of the package index, as far as it is in our way: a package `goodwe`."""


def files() -> Iterator[str]:
    """Paths of what belongs to the checkout, relative to it."""
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    for path in [*(ROOT / name for name in TOP), *ROOT.glob("*.md")]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(ROOT).parts
            rubbish = any(fnmatch.fnmatch(part, rule.rstrip("/")) for part in parts for rule in ignored)
            if file.is_file() and not rubbish:
                yield "/".join(parts)


def call(*command: str | Path, folder: Path, **environment: str) -> str:
    """Both output streams of a command, which has to succeed."""
    unset = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Built:
    """A copy of the checkout, and what `python -m build` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        for name in files():
            copy = self.checkout / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy)
        self.before = self.listed()
        self.dist = folder / "dist"
        self.said = self.build()
        (self.wheel,), (self.sdist,) = self.dist.glob("*.whl"), self.dist.glob("*.tar.gz")

    def build(self, *options: str) -> str:
        """Build into `dist`; what was said."""
        clock = {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONWARNINGS": "default"}
        command = [sys.executable, "-m", "build", "-o", str(self.dist), *options]
        return call(*command, folder=self.checkout, **clock)

    def listed(self) -> set[str]:
        """All that is in the copy of the checkout."""
        return {str(path.relative_to(self.checkout)) for path in self.checkout.rglob("*")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("packaging"))


class Environment:
    """A venv that has our dependencies, and of what is tested here only what is installed into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        self.packages = next(folder.glob("lib/python*/site-packages"))
        # A .pth file in a folder that another one names is not read: no editable installation comes along.
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def pip(self, *arguments: str | Path) -> str:
        """Run the pip of this process on that venv."""
        quiet = ["--disable-pip-version-check", "--python", self.bin / "python"]
        return call(sys.executable, "-m", "pip", *quiet, *arguments, folder=self.folder)

    def install(self, *what: str | Path) -> None:
        """Install without what it depends on; that is there."""
        self.pip("install", "-q", "--no-deps", *what)

    def ours_works(self) -> bool:
        """The command runs, from anywhere, on code of ours alone."""
        version = (ROOT / "goodwe" / "__init__.py").read_text("utf-8").split('"')[-2]
        command = self.bin / "goodwe-logger"
        assert call(command, "--version", folder=self.folder) == f"{version}\n"
        said = call(command, "decode", "AA558 07f000000 01fe", folder=self.folder, PYTHONSAFEPATH="1")
        assert '"frames": 1' in said
        return True

    def theirs_works(self) -> bool:
        """`import goodwe` is the other project's, whole."""
        script = "import goodwe, goodwe.protocol as p; print(goodwe.ours, p.UdpInverterProtocol.__name__)"
        said = call(self.bin / "python", "-c", script, folder=self.folder)
        return said == "False UdpInverterProtocol\n"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel = tmp_path_factory.mktemp("theirs") / "goodwe-0.4.8-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        for name, text in THEIRS.items():
            out.writestr(name, text)
        rows = "".join(f"{name},,\n" for name in [*THEIRS, "goodwe-0.4.8.dist-info/RECORD"])
        out.writestr("goodwe-0.4.8.dist-info/RECORD", rows)
    return wheel


def in_wheel(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as wheel:
        return set(wheel.namelist())


def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_wheel_has_everything_below_a_name_of_its_own_and_nothing_else(built):
    belongs = ("GoodWe.py", "goodwe/", "DaemonPy/", "etc/")
    wanted = {
        f"goodwe_usb_logger/{name}" for name in files() if name.startswith(belongs) or name.endswith(".md")
    }
    made = ("/etc/man/", "/etc/completion/", "/etc/pictures/")
    apart = ("/tests/", "/.github/", "/etc/debian/", "/etc/container/", *made)
    wanted = {name for name in wanted if not any(part in name for part in apart)}
    assert {name for name in in_wheel(built) if ".dist-info/" not in name} == wanted


@pytest.mark.parametrize(
    "name", ["99-goodwe.rules", "goodwe.service", "goodwe.logrotate", "goodwe.conf", "restartd.conf"]
)
def test_wheel_brings_what_goes_to_etc(built, name):
    assert f"goodwe_usb_logger/etc/{name}" in in_wheel(built)


def test_sdist_is_the_checkout(built):
    with tarfile.open(built.sdist) as sdist:
        inside = {item.name.partition("/")[2] for item in sdist if item.isfile()}
    assert {name for name in inside if ".egg-info/" not in name} == {*files(), "PKG-INFO", "setup.cfg"}


def test_build_leaves_no_rubbish_and_warns_of_nothing(built):
    assert built.listed() == built.before
    assert "deprecat" not in built.said.lower()
    assert "warning:" not in built.said.lower()


def test_wheel_is_the_same_bytes_however_it_is_built(built):
    before = built.wheel.read_bytes()
    built.build("--wheel")
    assert built.wheel.read_bytes() == before
    assert built.listed() == built.before


def test_wheel_and_sdist_are_the_same_bytes_whoever_builds_them(built):
    """From files of another moment, in a checkout that nobody else may read, as a user who keeps others out."""
    before = built.wheel.read_bytes(), built.sdist.read_bytes()
    for path in built.checkout.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    mask = os.umask(0o077)
    try:
        built.build()
    finally:
        os.umask(mask)
    assert (built.wheel.read_bytes(), built.sdist.read_bytes()) == before
    with tarfile.open(built.sdist) as sdist:
        assert {(item.uid, item.gid, item.uname, item.mtime) for item in sdist} == {(0, 0, "", 1_700_000_000)}
        assert {item.mode for item in sdist} == {0o644, 0o755}


def test_licence_is_an_spdx_expression(built):
    found = metadata(built)
    assert found["License-Expression"] == "MIT"
    assert found["License-File"] == "LICENSE"
    assert not [row for row in found.get_all("Classifier", []) if row.startswith("License")]


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_library_called_goodwe_can_be_installed_beside_in_any_order(
    built, theirs, environment, ours_first
):
    for wheel in (built.wheel, theirs) if ours_first else (theirs, built.wheel):
        environment.install(wheel)
    assert environment.ours_works()
    assert environment.theirs_works()
    environment.pip("uninstall", "-q", "-y", "goodwe")
    assert environment.ours_works()
    environment.install(theirs)
    environment.pip("uninstall", "-q", "-y", "goodwe-usb-logger")
    assert environment.theirs_works()
    assert not (environment.packages / "goodwe_usb_logger").exists()
    assert not (environment.bin / "goodwe-logger").exists()


def test_checkout_installed_in_place_and_its_tests_beside_the_library(built, theirs, environment):
    environment.install(theirs)
    environment.install("-e", built.checkout)
    assert built.listed() == built.before
    assert environment.ours_works()
    assert environment.theirs_works()
    tests = ["-m", "pytest", "-p", "no:cacheprovider", "tests/test_frame.py", "tests/test_floors.py"]
    said = call(environment.bin / "python", "-B", *tests, folder=built.checkout)
    assert " passed" in said
    script = "import goodwe.protocol.frame as frame; print(frame.__file__)"
    said = call(environment.bin / "python", "-B", "-c", script, folder=built.checkout)
    assert said == f"{built.checkout}/goodwe/protocol/frame.py\n"
    environment.pip("uninstall", "-q", "-y", "goodwe-usb-logger")
    assert environment.theirs_works()


def test_sdist_passes_its_own_tests(built, environment, tmp_path):
    call("tar", "-xzf", built.sdist, folder=tmp_path)
    (unpacked,) = tmp_path.glob("goodwe_usb_logger-*")
    pytest_options = ["-m", "pytest", "-p", "no:cacheprovider"]
    quick = ["tests/test_floors.py", "tests/test_readme.py"]
    assert " passed" in call(environment.bin / "python", *pytest_options, *quick, folder=unpacked)
    call(environment.bin / "python", *pytest_options, "--collect-only", folder=unpacked)


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [("x86_64", True), ("aarch64", True), ("armv7l", False), ("armv6l", False), ("i686", False)],
)
def test_the_demo_needs_nothing_that_has_to_be_compiled(built, machine, wanted):
    from packaging.requirements import Requirement

    found = [Requirement(row) for row in metadata(built).get_all("Requires-Dist", [])]
    needed = [
        row
        for row in found
        if row.marker and row.marker.evaluate({"extra": "demo", "platform_machine": machine})
    ]
    assert [row.name for row in needed] == [*(["amqtt"] if wanted else []), "waitress"]


HAVE_A_WHEEL_FOR_ANY_MACHINE_TOO = {"coverage", "simplejson"}


def test_the_tests_need_nothing_that_has_to_be_compiled(built):
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    compiled, seen = set(), set()
    left = [(row, "test") for row in metadata(built).get_all("Requires-Dist", [])]
    while left:
        row, extra = left.pop()
        needed = Requirement(row)
        name = canonicalize_name(needed.name)
        # An older Raspberry Pi: nearly no package has a wheel of its own for it.
        if needed.marker and not needed.marker.evaluate({"extra": extra, "platform_machine": "armv6l"}):
            continue
        if name not in seen:
            seen.add(name)
            found = importlib.metadata.distribution(name)
            if "Root-Is-Purelib: true" not in (found.read_text("WHEEL") or "Root-Is-Purelib: true"):
                compiled.add(name)
            left += [(more, wanted) for more in found.requires or [] for wanted in (needed.extras or [""])]
    assert {"pytest", "hypothesis", "trio"} <= seen
    assert compiled <= HAVE_A_WHEEL_FOR_ANY_MACHINE_TOO


def test_32_bit_system_on_a_64_bit_kernel_is_not_taken_for_a_64_bit_one(monkeypatch):
    asked = {}
    setuptools = SimpleNamespace(setup=asked.update, find_packages=lambda *_, **__: [])
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    monkeypatch.setitem(sys.modules, "setuptools.command.sdist", SimpleNamespace(sdist=object))
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr(atexit, "register", lambda *_, **__: None)
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)  # as on armhf, where the kernel may say aarch64
    runpy.run_path(str(ROOT / "setup.py"))
    assert asked["extras_require"]["demo"] == ["waitress>=2.1"]
    assert not [row for row in asked["extras_require"]["test"] if row.startswith("amqtt")]


def imported() -> set[str]:
    """First words of what the program and its tests import, and the standard library does not have."""
    found: set[str] = set()
    for path in (ROOT / name for name in files() if name.endswith(".py") and name != "setup.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"GoodWe", "goodwe", "DaemonPy", "tests"}


def test_what_is_imported_is_declared(built):
    from packaging.requirements import Requirement

    declared = {Requirement(row).name for row in metadata(built).get_all("Requires-Dist", [])}
    assert {{"paho": "paho-mqtt"}.get(name, name.replace("_", "-")) for name in imported()} <= declared


def test_hooks_of_pre_commit_are_the_checks_of_ci():
    run = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    tools = (".venv-ci/bin/ruff", ".venv-ci/bin/mypy")
    checks = [line.replace("-ci", "", 1) for line in run if line.startswith(tools)]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8").splitlines()
    assert [line.partition("entry: ")[2] for line in hooks if "entry: " in line] == checks
    assert len(checks) > 2


CI_BEGINS = """
works() { echo works-said; }
fails() { echo fails-said; false; echo not-reached; }
lasts() { echo lasts-said; sleep 300; }
"""


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("begin works; finish works; echo all", 0, ["works-said", "all"]),
        ("begin fails; finish fails; echo all", 1, ["fails-said", "fails failed, exit code 1"]),
        ("begin lasts; until grep -qs said $output/lasts; do :; done; false; echo all", 1, ["lasts-said"]),
    ],
)
def test_what_ci_has_in_the_background_is_shown_and_fails_the_whole(script, code, said):
    run = (ROOT / ".ci" / "run").read_text("utf-8")
    head, trap, _ = run.partition("trap leave EXIT\n")
    lines = ["bash", "-c", head.replace('cd "$(dirname "$0")/.."\n', "") + trap + CI_BEGINS + script]
    done = subprocess.run(lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    for word in said:
        assert f"{word}\n" in done.stdout
    assert "not-reached" not in done.stdout
    assert ("all\n" in done.stdout) == (code == 0)

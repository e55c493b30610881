"""The Debian package's recipe, held against the program: names, dependencies, and what its scripts have to know."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from goodwe import __version__, program
from goodwe.tools.install import steps
from goodwe.tools.install.files import CONFIGURATION, FILES, LOGROTATE, RULE, USER

from .system.image import requirements

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "etc/debian"
NAME = "goodwe-usb-logger"
SCRIPTS = [f"{NAME}.{script}" for script in ("preinst", "postinst", "postrm")]


def recipe(name: str) -> str:
    return (RECIPE / name).read_text("utf-8")


def field(name: str) -> set[str]:
    """The packages of a field of the package's control file."""
    (row,) = re.findall(rf"(?m)^{name}: (.*)$", recipe("control").partition("\n\n")[2])
    return {entry.split()[0] for entry in row.split(", ")}


def test_it_depends_on_what_is_imported_or_brings_it_along():
    brought = set(re.findall(r"(?m)^([\w-]+)==", recipe("vendored.txt")))
    needed = {re.split(r"[<>=!~\[; ]", row)[0] for row in requirements()}
    debian = {name.removeprefix("python3-") for name in field("Depends")}
    assert needed <= debian | brought
    assert not brought & debian
    assert f"{NAME}.install" in {path.name for path in RECIPE.iterdir()}
    for name in brought:
        module = name.replace("-", "_")
        assert f"debian/vendored/{module} usr/share/{NAME}" in recipe(f"{NAME}.install")
        assert "Files: debian/vendored/*" in recipe("copyright")


def test_what_is_brought_along_is_what_setup_asks_for():
    from packaging.requirements import Requirement

    asked = {row.name: row for row in map(Requirement, requirements())}
    for name, version, digest in re.findall(
        r"(?m)^([\w-]+)==(\S+) --hash=sha256:(\w+)$", recipe("vendored.txt")
    ):
        assert version in asked[name].specifier
        assert len(digest) == 64


def test_its_places_are_those_that_the_program_knows():
    assert f"usr/share/{NAME}" == program.DEBIAN_HOME.lstrip("/")
    links = dict(line.split() for line in recipe(f"{NAME}.links").splitlines())
    assert links[f"usr/share/{NAME}/GoodWe.py"] == "usr/sbin/GoodWe.py"
    assert f"{program.CALLED_AS}={program.COMMAND} exec /usr/sbin/GoodWe.py" in recipe("goodwe-logger")
    rules = recipe("rules")
    assert f"dh_installsystemd --name={steps.SERVICE.removesuffix('.service')}\n" in rules
    name, priority = re.findall(r"dh_installudev --name=(\S+) --priority=(\d+)", rules)[0]
    assert Path(RULE).name == f"{priority}-{name}.rules"
    assert f"dh_installlogrotate --name={Path(LOGROTATE).name}\n" in rules


def test_everything_that_a_wheel_has_is_installed():
    rows = dict(line.rsplit(None, 1) for line in recipe(f"{NAME}.install").splitlines())
    assert {"GoodWe.py", "goodwe", "DaemonPy"} <= rows.keys()
    assert all((ROOT / "etc" / file.source).match("etc/*.*") for file in FILES.values())


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_move_and_take_the_files_that_the_program_has(script):
    text = recipe(script)
    subprocess.run(["sh", "-n", RECIPE / script], check=True, timeout=10)
    assert f"for file in {CONFIGURATION} {LOGROTATE}; do" in text
    assert "#DEBHELPER#" in text


@pytest.mark.parametrize(("configured_before", "now_there"), [("", "from /opt"), ("1.0", "edited since")])
def test_file_out_of_the_way_is_put_back_by_the_first_installation_alone(
    tmp_path, configured_before, now_there
):
    """An upgrade finds what somebody has saved under that name, and would put it over the newer file."""
    (tmp_path / "goodwe.conf").write_text("edited since")
    (tmp_path / "goodwe.conf.dpkg-bak").write_text("from /opt")
    script = recipe(f"{NAME}.postinst").partition("    # Before the unit starts")[0] + "fi\n"
    moved = script.replace("/etc/", f"{tmp_path}/")
    subprocess.run(["sh", "-c", moved, "postinst", "configure", configured_before], check=True, timeout=10)
    assert (tmp_path / "goodwe.conf").read_text() == now_there


def test_rule_that_was_copied_by_hand_is_read_anew_with_the_group_that_now_exists():
    before, _, after = recipe(f"{NAME}.postinst").partition(f"touch -c {RULE} ")
    assert "systemd-sysusers" in before
    assert after.index("udevadm control --reload") < after.index("udevadm trigger")


def test_purge_takes_totals_log_and_user():
    text = recipe(f"{NAME}.postrm")
    assert f"rm -rf {steps.STATE} /var/lib/{NAME}\n" in text
    assert f"rm -f {steps.LOG}* {steps.PASSWORD}\n" in text
    user, comment = re.findall(r"(?m)^u (\S+) - (\S+) -$", recipe(f"{NAME}.sysusers"))[0]
    assert (user, comment) == (USER, steps.COMMENT)
    assert f'"$(getent passwd {user} | cut -d: -f5)" = {comment} ]' in text


def test_unit_of_the_package_starts_the_packages_program():
    command = ["sed", "-f", RECIPE / "unit.sed", ROOT / "etc/goodwe.service"]
    unit = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    assert unit.startswith("[Unit]\n")
    assert "ExecStart=/usr/sbin/GoodWe.py foreground\n" in unit
    assert f"Documentation=file:///usr/share/doc/{NAME}/README.md\n" in unit
    assert "/opt/" not in unit


def test_what_is_missing_to_build_is_named(tmp_path):
    for program_name in ("sh", "dirname", "mkdir"):
        (tmp_path / program_name).symlink_to(str(shutil.which(program_name)))
    done = subprocess.run(
        [RECIPE / "build", tmp_path / "out"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends debhelper dh-python python3-pip" in done.stderr


def test_address_of_the_maintainers_is_the_homepages_owner_and_no_mailbox():
    owner = re.findall(r"(?m)^Homepage: https://github\.com/([\w-]+)/", recipe("control"))
    address = re.findall(r"(?m)^Maintainer: [\w ]+ <(.+)>$", recipe("control"))
    assert address == [f"{owner[0]}@users.noreply.github.com"]


@pytest.mark.parametrize("script", [RECIPE / "build", ROOT / ".ci/release"])
def test_scripts_have_the_version_of_the_program(script):
    (line,) = re.findall(r"(?m)^version=(\$\(sed .*\))", script.read_text("utf-8"))
    command = f'here=. tree=.; printf %s "{line}"'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert done.stdout == __version__


def test_version_of_the_program_is_that_of_wheel_manual_and_changelog():
    setup = (ROOT / "setup.py").read_text("utf-8")
    (pattern,) = re.findall(r"""VERSION = re\.search\(r'(.+?)',""", setup)
    assert re.findall(pattern, (ROOT / "goodwe/__init__.py").read_text("utf-8")) == [__version__]
    assert program.version().split()[0] == __version__
    for page in ("GoodWe.py.8", "goodwe.conf.5"):
        assert __version__ in (ROOT / "etc/man" / page).read_text("utf-8").splitlines()[0]
    sections = re.findall(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert sections[:2] in (["Unreleased"], ["Unreleased", __version__])


def test_release_is_refused_where_tag_and_version_differ():
    done = subprocess.run([ROOT / ".ci/release", "v0.0.1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"the tag is v0.0.1, and __version__ in goodwe/__init__.py is {__version__}" in done.stderr


def test_container_installs_what_the_build_makes():
    text = (ROOT / "etc/container/Dockerfile").read_text("utf-8")
    assert f"COPY dist/{NAME}_*_all.deb /tmp/package/\n" in text
    assert 'ENTRYPOINT ["/usr/sbin/GoodWe.py"]' in text

"""The command line: its verbs, its help, and the streams that people have."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodwe import __version__, cli, paths, program
from goodwe.tools import documents

from .test_program import GOODWE, ROOT, goodwe

VERBS = [verb.name for verb in cli.VERBS]


def run_with(redirect: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The program as a shell starts it with this redirection."""
    command = f'"$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, GOODWE, *arguments],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def configuration(tmp_path) -> Path:
    """A file with nothing in it."""
    path = tmp_path / "t.conf"
    path.write_text("")
    return path


def test_documents_have_the_table_of_the_verbs():
    written = documents.part((ROOT / "etc" / "doc" / "commands.md").read_text("utf-8"), "verbs")
    assert written == cli.table(), "write it anew: python3 -m goodwe.tools.documents"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_verb_has_its_help(verb, flag, tmp_path):
    """With whatever is in the configuration, and doing nothing."""
    bad = tmp_path / "t.conf"
    bad.write_text("rubbish")
    done = goodwe("--config", bad, "--pidfile", tmp_path / "pid", verb, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: GoodWe.py {verb}" in done.stdout
    assert not (tmp_path / "pid").exists()


def test_help_names_every_verb():
    done = goodwe("--help")
    assert done.returncode == 0
    assert all(f"\n  {verb.name:13} {verb.help}\n" in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("strat", "start"), ("stat", "start"), ("Restart", "restart"), ("checkconfig", "check-config")],
)
def test_verb_that_is_misspelt_names_the_nearest(typed, meant):
    done = goodwe(typed)
    assert done.returncode == 2
    assert f"unknown verb '{typed}'; is {meant} meant?" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--config", "/x.conf"], ["--pidfile=/x.pid"]])
def test_missing_verb_names_them_all(arguments):
    done = goodwe(*arguments)
    assert done.returncode == 2
    assert f"which verb? one of {', '.join(VERBS)}" in done.stderr
    assert "--version] VERB\n" in done.stderr


PLAIN_WORDS = [
    *(
        "--config",
        "--pidfile",
        "--conf",
        "--config=/c",
        "--pidfile=/p",
        "--version",
        "-h",
        "--",
        "-",
        "-1",
        "",
    ),
    *("/c", "/p", "start", "status", "discovery", "strat", "--long", "clear", "a b"),
]


@given(st.lists(st.sampled_from(PLAIN_WORDS), max_size=6))
@settings(max_examples=2000, deadline=None)
def test_plain_command_line_is_understood_as_argparse_does(words):
    """argparse is the rule; only what it would understand in the same way goes without it."""
    plain = cli._parse_plain(words)
    if plain is not None:
        assert plain == cli._parse_any(words)


@pytest.mark.parametrize(
    "words",
    [["start"], ["--config", "/c", "restart"], ["--pidfile", "/p", "--config", "/c", "status", "--long"]],
)
def test_usual_command_line_is_a_plain_one(words):
    assert cli._parse_plain(words) == cli._parse_any(words)


def test_verb_that_is_like_none_names_them_all():
    done = goodwe("42")
    assert done.returncode == 2
    assert f"unknown verb '42'; known are {', '.join(VERBS)}" in done.stderr


def test_check_config_without_a_file_says_so_and_shows_the_defaults(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli.paths, "CONFIGURATION", str(tmp_path / "goodwe.conf"))
    assert cli.main(["check-config"]) == 0
    out, err = capsys.readouterr()
    assert "server = localhost\n" in out
    assert f"{tmp_path}/goodwe.conf: no such file; these are the defaults" in err


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_check_config_on_a_terminal_of_any_encoding(configuration, encoding):
    configuration.write_text("[mqtt]\ntopic = sun/střecha☀\n", "utf-8")
    done = run_with("", "--config", str(configuration), "check-config", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "topic = sun/střecha☀\n".encode(encoding, "backslashreplace") in done.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_mistake_is_told_on_a_terminal_of_any_encoding(configuration, encoding):
    configuration.write_text("[mqtt]\nstřecha = ☀\n", "utf-8")
    done = run_with("", "--config", str(configuration), "check-config", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert "unknown key střecha".encode(encoding, "backslashreplace") in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("check-config", 0),
        ("status", 3),
        ("stop", 0),
        ("decode AA55807F00000001FE", 0),
        ("decode", 1),
        ("--help", 0),
    ],
)
def test_closed_streams_are_no_hindrance(configuration, tmp_path, closed, arguments, code):
    before = ["--config", str(configuration), "--pidfile", str(tmp_path / "pid")]
    # Nothing to read where the stream is open: it would be the tests' own.
    done = run_with(f"{closed} {'' if '<' in closed else '</dev/null'}", *before, *arguments.split())
    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("arguments", ["check-config", "decode AA55807F00000001FE", "status"])
def test_full_disk_behind_the_output_is_said(configuration, arguments):
    done = run_with(">/dev/full", "--config", str(configuration), *arguments.split())
    assert done.returncode == 1
    assert done.stderr == b"cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("text", "code"), [("rubbish", 2), ("[mqtt]\nserver = localhost\nport = 1\n", 1), ("", 0)]
)
def test_full_disk_behind_the_messages_changes_no_exit_code(configuration, text, code):
    configuration.write_text(text)
    verb = ["check-config"] if code != 1 else ["discovery", "clear"]
    done = run_with("2>/dev/full", "--config", str(configuration), *verb)
    assert done.returncode == code


def test_decode_of_closed_input_is_no_bytes():
    done = run_with("<&-", "decode")
    assert (done.returncode, done.stderr) == (1, b"")
    assert b'"frames": 0' in done.stdout


def test_credential_outside_its_unit_ends_only_the_verbs_that_log_in(configuration, tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    configuration.write_text("[mqtt]\nusername = me\npasswordfile = mqtt-password\n")
    before = ("--config", configuration, "--pidfile", tmp_path / "pid")
    done = goodwe(*before, "check-config")
    assert done.returncode == 0
    assert "passwordfile = mqtt-password\n" in done.stdout
    assert "the password is not known here; to run, it must be the path of a file" in done.stderr
    for verb in (["discovery", "clear"], ["start"], ["foreground"]):
        done = goodwe(*before, *verb)
        assert done.returncode == 2
        load = "-p LoadCredential=mqtt-password:/etc/goodwe.password"
        assert f"{load} $PWD/GoodWe.py --config {configuration} VERB" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "log", ["/no/such/goodwe.log", ".", "file/goodwe.log", "/proc/x.log", "/sys/x.log", "new/" + "x" * 256]
)
def test_log_that_start_could_not_open_is_refused_by_check_config_too(configuration, tmp_path, log):
    (tmp_path / "file").touch()
    configuration.write_text(f"[inverter]\nlogfile = {tmp_path / log}\n")
    told = set()
    for verb in ("check-config", "start"):
        done = goodwe("--config", configuration, "--pidfile", tmp_path / "pid", verb)
        assert done.returncode == 2
        told.add(done.stderr)
    assert len(told) == 1


@pytest.mark.parametrize("pid", ["/proc/x", "/sys/x", ".", "file/x", "no/such/x", "pipe", "/dev/null"])
def test_pid_file_that_start_could_not_use_is_refused_by_check_config_too(configuration, tmp_path, pid):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    before = ("--config", configuration, "--pidfile", tmp_path / pid)
    done = goodwe(*before, "check-config")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"--pidfile {tmp_path / pid}: cannot be used (")
    done = goodwe(*before, "start")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot open the pid file {tmp_path / pid}: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe", "t.conf"]


@pytest.mark.parametrize("verb", ["check-config", "start", "restart"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[inverter]\nlogfile = {0}/pid\n", "logfile and the pid file {0}/pid"),
        ("[inverter]\nstatefile = {0}/pid\n", "statefile and the pid file {0}/pid"),
        ("[inverter]\nstatefile = {0}/state\n", "the lock of statefile and the pid file {0}/state.lock"),
        ("[mqtt]\nbacklog = {0}/link/pid\n", "backlog and the pid file {0}/pid"),
        ("[history]\nfile = {0}/pid\n", "file and the pid file {0}/pid"),
        ("[history]\nfile = {0}/pid.sock\n", "file and the control socket {0}/pid.sock"),
        ("[inverter]\ndevice = unix:{0}/pid.sock\n", "device and the control socket {0}/pid.sock"),
    ],
)
def test_file_that_is_the_pid_file_or_the_socket_beside_it_is_refused(
    configuration, tmp_path, text, told, verb
):
    (tmp_path / "link").symlink_to(tmp_path)
    configuration.write_text(text.format(tmp_path))
    pidfile = tmp_path / ("state.lock" if "lock" in told else "pid")
    done = goodwe("--config", configuration, "--pidfile", pidfile, verb)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{configuration}: {told.format(tmp_path)} are one file; name another\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "t.conf"]


@pytest.mark.parametrize("verb", ["check-config", "start"])
def test_configuration_is_no_pid_file(configuration, verb):
    """Its text would be gone, with a number in its place."""
    configuration.write_text("[mqtt]\n")
    done = goodwe("--config", configuration, "--pidfile", configuration, verb)
    assert done.returncode == 2
    assert "this configuration and the pid file" in done.stderr
    assert configuration.read_text() == "[mqtt]\n"


WITHOUT = "{} is not installed; run pip install 'goodwe-usb-logger[web]'"


@pytest.fixture
def without(monkeypatch, tmp_path, library):
    """A Python in which nobody has installed that library."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(f"import sys\nsys.modules['{library}'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


@pytest.mark.parametrize(("library", "text"), [("waitress", ""), ("prometheus_client", "metrics = on\n")])
@pytest.mark.usefixtures("without")
def test_configuration_without_any_output_that_can_begin_is_refused_by_check_config_too(
    configuration, tmp_path, library, text
):
    off = f"[inverter]\nlogfile = {tmp_path}/log\nstatefile =\n[mqtt]\nenabled = off\n"
    configuration.write_text(f"{off}[web]\n{text}")
    why = f"no output can begin: {WITHOUT.format(library)}\n"
    before = ("--config", configuration, "--pidfile", tmp_path / "pid")
    done = goodwe(*before, "check-config")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{configuration}: {why}")
    done = goodwe(*before, "start")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"GoodWe could not start: {why}")


@pytest.mark.parametrize("library", ["waitress"])
@pytest.mark.usefixtures("without")
def test_output_of_several_that_cannot_begin_is_a_warning(configuration, tmp_path, library):
    before = ("--config", configuration, "--pidfile", tmp_path / "pid")
    left_out = f"{configuration}: [web] is left out: {WITHOUT.format(library)}\n"
    for text, told in (("[web]\n", left_out), ("[web]\nenabled = off\n", "")):
        configuration.write_text(f"[inverter]\nlogfile = {tmp_path}/log\n{text}")
        done = goodwe(*before, "check-config")
        assert (done.returncode, done.stderr) == (0, told)


def test_read_only_file_system_is_refused_where_it_was_chosen(configuration, monkeypatch, capsys, tmp_path):
    """The defaults are not used in the foreground, where a container or a unit may see everything read-only."""
    found = os.statvfs(tmp_path)
    read_only = os.statvfs_result((*found[:8], found.f_flag | os.ST_RDONLY, found.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    before = ["--config", str(configuration)]
    assert cli.main([*before, "check-config"]) == 0
    told = capsys.readouterr().err
    assert "logfile = /var/log/goodwe.log: cannot be written (Read-only file system); start needs it" in told
    assert f"--pidfile {paths.PIDFILE}: cannot be used (Read-only file system); start needs it" in told
    assert cli.main([*before, "--pidfile", str(tmp_path / "pid"), "check-config"]) == 2
    assert "--pidfile" in capsys.readouterr().err
    configuration.write_text(f"[inverter]\nlogfile = {tmp_path}/log\n")
    assert cli.main([*before, "check-config"]) == 2
    assert capsys.readouterr().err.endswith("/log: cannot be written (Read-only file system)\n")


def test_goodwe_logger_calls_itself_so(monkeypatch):
    monkeypatch.setenv(program.CALLED_AS, program.COMMAND)
    assert "usage: goodwe-logger [-h]" in goodwe("--help").stdout
    assert "usage: goodwe-logger decode" in goodwe("decode", "--help").stdout
    assert "usage: goodwe-logger start" in goodwe("start", "--help").stdout
    monkeypatch.setenv(program.CALLED_AS, "rm -rf /")
    assert "usage: GoodWe.py [-h]" in goodwe("--help").stdout


def test_version_says_the_commit_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "HOME", tmp_path)
    assert program.version() == __version__
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert program.version() == __version__  # a checkout without a commit
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert program.version().startswith(f"{__version__} ({commit[:7]}")
    subprocess.run([*git, "tag", "v0.9.0"], check=True)
    assert program.version() == f"{__version__} (v0.9.0)"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.version() == __version__  # a machine without git


def test_git_is_asked_only_by_who_wants_the_version():
    script = (
        "import sys; from goodwe import cli, program; cli.command_line(); print('subprocess' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("home", "scripts", "links", "executable", "command"),
    [
        ("/usr/share/goodwe-usb-logger", "/usr/bin", "", "/usr/sbin/GoodWe.py", "GoodWe.py"),
        ("{}/checkout", "{}/bin", "", "{}/checkout/GoodWe.py", "{}/checkout/GoodWe.py"),
        ("{}/lib", "{}/bin", "", "{}/bin/goodwe-logger", "{}/bin/goodwe-logger"),
        ("{}/lib", "{}/bin", "{}/local", "{}/bin/goodwe-logger", "goodwe-logger"),
        ("{}/lib", "{}/none", "", "{}/lib/GoodWe.py", "{}/lib/GoodWe.py"),
    ],
)
def test_words_that_call_the_program_wherever_it_lies(
    monkeypatch, tmp_path, home, scripts, links, executable, command
):
    def at(path: str) -> str:
        return path.format(tmp_path)

    for folder in ("checkout", "bin", "lib", "local", "none"):
        (tmp_path / folder).mkdir()
    (tmp_path / "checkout/setup.py").touch()
    (tmp_path / "bin/goodwe-logger").touch()
    (tmp_path / "local/goodwe-logger").symlink_to(tmp_path / "bin/goodwe-logger")
    monkeypatch.setattr(program, "HOME", Path(at(home)))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: at(scripts))
    monkeypatch.setattr(program, "SUDO_PATH", (*program.SUDO_PATH, *filter(None, [at(links)])))
    assert (str(program.executable()), program.command()) == (at(executable), at(command))


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--pidfile", "x.pid", verb] for verb in ("start", "stop", "status", "doctor", "setup")),
        ["simulate", "--listen", "unix:sim"],
        ["--config", "CONF", "check-config"],
    ],
)
def test_folder_that_was_deleted_is_told_in_a_line(arguments, tmp_path, monkeypatch, capsys):
    conf, folder = tmp_path / "t.conf", tmp_path / "gone"
    conf.write_text("[inverter]\nstatefile = state.json\n")
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert cli.main([str(conf) if word == "CONF" else word for word in arguments]) == 1
    said = "the folder that you are in was deleted; change to another, as with cd\n"
    assert capsys.readouterr() == ("", said)

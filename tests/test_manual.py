"""Manual pages and completion: made anew they are those in the tree, and man and real shells take them."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from goodwe import cli, config
from goodwe.tools import documents

ROOT = Path(__file__).parents[1]
MANUALS = ["etc/man/GoodWe.py.8", "etc/man/goodwe.conf.5"]


def needs(program):
    return pytest.mark.skipif(
        not shutil.which(program), reason=f"{program} is not on this machine; CI has it"
    )


@pytest.mark.parametrize("name", documents.generated())
def test_document_is_made_of_what_the_program_has(name):
    assert (ROOT / name).read_text("utf-8") == documents.generated()[name], (
        "write it anew: python3 -m goodwe.tools.documents"
    )


# --- manual pages


@needs("man")
@pytest.mark.parametrize("page", MANUALS)
@pytest.mark.parametrize("width", ["60", "120"])
def test_man_shows_it_without_a_warning(page, width):
    environ = {**os.environ, "MANWIDTH": width, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    command = ["man", "--warnings", "-E", "UTF-8", "-l", ROOT / page]
    shown = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=True)
    assert shown.stderr == ""
    assert shown.stdout.count("\n") > 60


def test_every_verb_with_its_options_is_in_the_manual():
    text = (ROOT / MANUALS[0]).read_text("utf-8").replace(r"\-", "-")
    for verb in cli.VERBS:
        assert f"\\fB{verb.name}\\fR" in text
        parser = verb.parser() if verb.parser else None
        for action in parser._actions if parser else []:
            for name in action.option_strings:
                assert name in ("-h", "--help") or f"\\fB{name}\\fR" in text, f"{verb.name} {name}"


def test_every_option_of_every_section_is_in_the_manual():
    text = (ROOT / MANUALS[1]).read_text("utf-8").replace(r"\-", "-")
    for name, kind in config.all_kinds().items():
        assert f".SH SECTION [{name}]\n" in text
        for option in kind.options():
            assert (f"\\fB{option.key}\\fR" in text) == option.listed


@pytest.mark.parametrize("page", MANUALS)
def test_no_line_of_text_is_taken_for_a_request(page):
    for line in (ROOT / page).read_text("utf-8").splitlines():
        assert re.match(r"\.(TH|SH|TP|B|RS|RE)\b|[^.']", line), line


# --- completion


def bash(*words):
    """The words that bash offers for the last of `words`."""
    script = ROOT / "etc/completion/GoodWe.py.bash"
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"""source '{script}'
        COMP_WORDS=({quoted}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        made=$(complete -p '{words[0]}' | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $made '{words[0]}' '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    said = subprocess.run(
        ["bash", "--norc", "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stderr == ""
    return said.stdout.split()


def fish(*words):
    script = ROOT / "etc/completion/GoodWe.py.fish"
    command = ["fish", "--no-config", "-c", f"source '{script}'; complete -C '{' '.join(words)}'"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert said.stderr == ""
    return [line.split("\t")[0] for line in said.stdout.splitlines()]


def zsh(folder, *words):
    """As bash; zsh completes only where somebody types, so somebody does."""
    shutil.copy(ROOT / "etc/completion/GoodWe.py.zsh", folder / "_GoodWe.py")
    environ = {**os.environ, "TERM": "dumb", "ZDOTDIR": str(folder), "PS1": "ready> ", "COLUMNS": "200"}
    setup = f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump; LISTMAX=9999"
    setup += (
        "; zstyle ':completion:*' verbose no; bindkey '^I' expand-or-complete; bindkey '^X^L' list-choices"
    )
    (folder / ".zshrc").write_text(f"{setup}\nPS1='ready> '\nunsetopt zle_bracketed_paste prompt_sp\n")
    process, terminal = pty.fork()
    if process == 0:  # the child
        os.execvpe("zsh", ["zsh", "-i"], environ)
    try:
        _until(terminal, "ready> ")
        os.write(terminal, " ".join(words).encode() + b"\x18\x0c")  # list what may follow
        return _until(terminal, "", seconds=3.0)
    finally:
        os.close(terminal)
        os.kill(process, 9)
        os.waitpid(process, 0)


def _until(terminal, mark, seconds=60.0):
    """The text that the terminal shows until `mark`, or until nothing has come for `seconds`."""
    shown = ""
    deadline = time.monotonic() + seconds
    while not (mark and mark in shown) and time.monotonic() < deadline:
        if select.select([terminal], [], [], min(seconds, 3.0))[0]:
            shown += os.read(terminal, 65_536).decode("utf-8", "replace")
            deadline = time.monotonic() + seconds if mark else time.monotonic() + 1.0
    return shown


SHELLS = [
    pytest.param(bash, id="bash", marks=needs("bash")),
    pytest.param(fish, id="fish", marks=needs("fish")),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("GoodWe.py", "st"), ["start", "status", "stop"]),
        (("goodwe-logger", "st"), ["start", "status", "stop"]),
        (("GoodWe.py", "unin"), ["uninstall"]),
        (("GoodWe.py", "status", "--l"), ["--long"]),
        (("GoodWe.py", "--pid"), ["--pidfile"]),
    ],
)
def test_shell_offers_verbs_and_options(shell, words, offered):
    assert sorted(shell(*words)) == offered


@needs("fish")
def test_fish_offers_the_choices_of_an_option():
    assert fish("GoodWe.py", "simulate", "--night", "g") == ["gone"]


@needs("zsh")
@pytest.mark.parametrize("name", ["GoodWe.py", "goodwe-logger"])
def test_zsh_offers_verbs(tmp_path, name):
    shown = zsh(tmp_path, name, "st")
    assert {"start", "status", "stop"} <= set(re.findall(r"[a-z-]+", shown))


@needs("zsh")
def test_zsh_offers_options(tmp_path):
    assert "--long" in zsh(tmp_path, "GoodWe.py", "status", "--")

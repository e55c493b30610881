"""The reasons of the code stand in the tree: each section that is cited is there."""

import re
import subprocess
from pathlib import Path

import pytest

from goodwe import cli, snapshot

ROOT = Path(__file__).parents[1]
DOCUMENTS = {"PROTOCOL": "goodwe/protocol/PROTOCOL.md", "CONTRACT": "goodwe/CONTRACT.md"}
NUMBER = r"\d+(?:\.\d+)?"
CITED = re.compile(rf"\b(PROTOCOL|CONTRACT)\s+({NUMBER}(?:(?:,\s*|\s+and\s+){NUMBER})*)\b")
"""PROTOCOL 2.5, or PROTOCOL 2.5, 9.5 and 9.6, also over the end of a line."""
NOWHERE = re.compile(r"\b(?:WISHES|ARCHITECTURE\.md|STYLE\.md|wish(?:es)? (?:\d|group))")
WRITTEN = {".py", ".md", ".conf", ".service", ".rules", ".toml", ".yml", ".yaml", ".json", ".in", ""}


def sections(document: str) -> set[str]:
    """The headings of a document by number, and the numbered points of a section as sections of it."""
    found, section = set(), ""
    for line in (ROOT / document).read_text("utf-8").splitlines():
        heading = re.match(rf"#+ ({NUMBER})\.? ", line)
        point = re.match(r"(\d+)\. ", line)
        if heading:
            section = heading[1]
            found.add(section)
        elif point:
            found.add(f"{section}.{point[1]}")
    return found


def texts() -> list[Path]:
    """Every text file of ours; only the tracked ones where git tells."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("goodwe", "DaemonPy", "tests", "etc")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    written = [path for path in paths if path.suffix in WRITTEN and path.is_file() and path != Path(__file__)]
    return [path for path in written if b"\0" not in path.read_bytes()]


def test_each_section_that_is_cited_exists():
    there = {name: sections(document) for name, document in DOCUMENTS.items()}
    cited = 0
    for path in texts():
        # comments go over several lines, each with its mark
        text = re.sub(r"\n\s*#?\s*", " ", path.read_text("utf-8", "replace"))
        for name, numbers in CITED.findall(text):
            for number in re.findall(NUMBER, numbers):
                cited += 1
                assert number in there[name], f"{path.relative_to(ROOT)} cites {name} {number}"
    assert cited > 80


def test_no_other_document_is_cited():
    for path in texts():
        found = NOWHERE.search(path.read_text("utf-8", "replace"))
        assert found is None, f"{path.relative_to(ROOT)} cites {found and found[0]}"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(PROTOCOL 9.5)", ["9.5"]),
        ("PROTOCOL 2.5, 9.5 and 9.6.", ["2.5", "9.5", "9.6"]),
        ("CONTRACT 6 and 7.", ["6", "7"]),
        ("PROTOCOL describes it", []),
    ],
)
def test_what_counts_as_a_citation(text, numbers):
    assert [number for _, cited in CITED.findall(text) for number in re.findall(NUMBER, cited)] == numbers


@pytest.mark.parametrize("document", DOCUMENTS.values())
def test_documents_cite_files_that_are_there(document):
    for name in re.findall(r"`((?:tests|goodwe|etc)/[\w./]+)`", (ROOT / document).read_text("utf-8")):
        assert (ROOT / name).exists(), name


def _section(number: int) -> str:
    return (ROOT / DOCUMENTS["CONTRACT"]).read_text("utf-8").split(f"## {number}. ")[1].split("\n## ")[0]


@pytest.mark.parametrize("verb", [verb.name for verb in cli.VERBS])
def test_the_contract_has_each_verb(verb):
    names = [row.split("|")[1] for row in _section(4).splitlines() if row.startswith("| ")]
    assert any(re.search(rf"\b{verb}\b", name) for name in names)


def test_the_contract_has_each_key_of_the_snapshot():
    described = set(re.findall(r"^    (\w+) ", snapshot.__doc__, re.MULTILINE))
    assert "inverters" in described
    assert described <= set(re.findall(r"`(\w+)`", _section(9)))

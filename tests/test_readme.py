"""What the README says of the tests: each feature has one, and each that is named is there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SCENARIOS = re.compile(r"`tests/(system|neighbours)` ((?:s\d\d(?:, | to )?)+)")


def rows() -> list[str]:
    table = README.split("## What it does")[1].split("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def named_tests() -> list[str]:
    """`file.py::test` each; a name without a file is of the file before it."""
    found, file = [], ""
    for name in re.findall(r"`((?:test_\w+\.py)?(?:::test_\w+)?)`", "".join(rows())):
        file, _, test = (name if name[0] != ":" else file + name).partition("::")
        found.append(f"{file}::{test}")
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_feature_names_a_test(row):
    assert re.search(r"`test_\w+\.py|`tests/(system|neighbours)` s\d\d", row.split("|")[3])


@pytest.mark.parametrize("name", named_tests())
def test_each_named_test_is_there(name):
    file, _, test = name.partition("::")
    module = importlib.import_module(f"tests.{file.removesuffix('.py')}")
    assert not test or callable(getattr(module, test))


@pytest.mark.parametrize(("folder", "names"), SCENARIOS.findall(README))
def test_each_named_scenario_is_there(folder, names):
    if folder == "system":
        there = {path.name[:3] for path in (ROOT / "tests/system/scenarios").glob("s*.py")}
    else:
        there = set(re.findall(r"def (s\d\d)_", (ROOT / "tests/neighbours/scenarios.py").read_text("utf-8")))
    assert set(re.findall(r"s\d\d", names)) <= there

"""Names and docstrings as CONTRIBUTING.md has them, held against the code."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text("utf-8"))
    for folder in ("goodwe", "DaemonPy")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def test_no_two_classes_have_one_name():
    names = Counter(
        node.name.lstrip("_")
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []

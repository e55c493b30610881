"""Names and docstrings as CONTRIBUTING.md has them, held against the code."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8"))
    for folder in ("goodwe", "DaemonPy", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
OURS = {name: tree for name, tree in TREES.items() if not name.startswith("tests")}


def test_no_two_classes_have_one_name():
    """Nor two types that are written like classes."""
    names = Counter()
    for tree in OURS.values():
        names.update(node.name.lstrip("_") for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
        targets = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
        names.update(target for target in targets if re.fullmatch(r"[A-Z]\w*[a-z]\w*", target))
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []


def test_docstrings_begin_with_the_thing_itself():
    """One that begins with What or Whether leaves it to the reader to find a subject for it."""
    found = [
        f"{name}:{node.lineno}: {node.value.value.splitlines()[0]}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and re.match(r"(What|Whether|Those|Whoever)\b", node.value.value)
    ]
    assert found == []


def test_constructors_document_each_argument():
    """As `name`, in the docstring of the constructor or of its class."""
    missing, found = [], 0
    for name, tree in OURS.items():
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for method in kind.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    documented = f"{ast.get_docstring(kind)}{ast.get_docstring(method)}"
                    arguments = [each.arg for each in (*method.args.args[1:], *method.args.kwonlyargs)]
                    found += len(arguments)
                    missing += [f"{name} {kind.name} {a}" for a in arguments if f"`{a}`" not in documented]
    assert found > 100
    assert missing == []

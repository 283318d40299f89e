"""The book's table of faults names tests that exist."""

import ast
import re


def test_every_fault_has_its_test(root):
    page = (root / "book" / "faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)` \|$", page, re.MULTILINE)
    assert len(named) == len(rows) >= 15
    for path, name in named:
        tree = ast.parse((root / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{path} has no test {name}"

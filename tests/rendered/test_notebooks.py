"""The committed notebooks keep the study's form, and run to their end."""

import ast
from pathlib import Path

import nbformat
import papermill
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NOTEBOOKS = sorted(EXPERIMENTS.glob("*.ipynb"))
# Chapters of derivations check each statement in the cell below it, in full view.
DERIVATIONS = range(11, 21)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_form(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [code[0]]
    parameters = papermill.inspect_notebook(path)
    for line in tagged[0].source.splitlines():
        # Flat, annotated and commented: papermill injects after this cell, so nothing is derived.
        name, _, rest = line.partition(":")
        assert name in parameters, line
        assert "#" in rest, line
    assert all(
        p["inferred_type_name"] in ("str", "int", "float", "bool") for p in parameters.values()
    )
    # What can be run on another data set can be run on another backbone.
    assert ("dataset" in parameters) == ("backbone" in parameters)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_cell_is_a_call_or_a_plot(path):
    """What a cell would define belongs in the package, where it has types and tests."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    # A file that the reader writes is no cell of ours.
    code = [source for source in code if not source.startswith("%%writefile")]
    for source in code:
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, defined)]
    _parameters, set_up, *others = code
    assert len(set_up.splitlines()) <= 15
    if int(path.name[:2]) not in DERIVATIONS:
        assert max(len(source.splitlines()) for source in others) <= 15


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_and_shows_a_picture(path, executed):
    cells = nbformat.read(executed / path.name, as_version=4).cells
    pictures = [
        output
        for cell in cells
        for output in cell.get("outputs", [])
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    assert pictures, "people would rather look than read"

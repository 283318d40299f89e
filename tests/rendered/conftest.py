"""All notebooks, executed once with the smallest profile."""

import pytest

from emastudy.study.report import write_includes
from emastudy.study.report.notebooks import run_notebooks


@pytest.fixture(scope="session")
def executed(root):
    """Folder of the executed notebooks. What is up to date is not run again."""
    folder = root / "build" / "smoke" / "notebooks"
    run_notebooks(root / "experiments", folder, "smoke")
    write_includes(root / "experiments" / "records", folder.parent / "generated")
    return folder

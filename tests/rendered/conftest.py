"""All notebooks, executed once with the smallest profile; the book of them; a browser.

Of several test processes the first makes them, and the others wait.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from emastudy.study.report import write_includes
from emastudy.study.report.notebooks import run_notebooks


@pytest.fixture(scope="session")
def executed(root):
    """Folder of the executed notebooks. What is up to date is not run again."""
    folder = root / "build" / "smoke" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        run_notebooks(root / "experiments", folder, "smoke", jobs=2)
        write_includes(root / "experiments" / "records", folder.parent / "generated")
    return folder


@pytest.fixture(scope="session")
def built(root, executed, testrun_uid):
    """The book with the smallest profile's notebooks, built with every warning an error."""
    source = root / "build" / "smoke" / "book"
    with FileLock(source.with_suffix(".lock")):
        made_by = source / "_build" / "made_by"
        if not made_by.exists() or made_by.read_text() != testrun_uid:
            _build(root, source, executed)
            made_by.write_text(testrun_uid)
    return source / "_build" / "html"


def _build(root, source, executed):
    shutil.rmtree(source, ignore_errors=True)
    products = shutil.ignore_patterns("_build", "notebooks", "generated")
    shutil.copytree(root / "book", source, ignore=products)
    shutil.copytree(executed, source / "notebooks")
    shutil.copytree(executed.parent / "generated", source / "generated")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


@pytest.fixture(scope="module")  # while it is there, its event loop keeps others from running
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        # No sandbox: CI runs as root in a container. No background traffic of the browser's own.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=path, args=arguments)

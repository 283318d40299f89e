"""All notebooks, executed once with the smallest profile; the book of them; a browser.

Of several test processes the first makes them, and the others wait.
"""

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from emastudy.study.report import write_includes
from emastudy.study.report.notebooks import run_notebooks


@contextmanager
def _once(name, testrun_uid):
    """Whether this process is the first of the test run to come here; the others wait for it."""
    name.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(name.with_suffix(".lock")):
        done = name.with_suffix(".made_by")
        first = not done.exists() or done.read_text() != testrun_uid
        yield first
        done.write_text(testrun_uid)


@pytest.fixture(scope="session")
def executed(root, testrun_uid):
    """Folder of the executed notebooks. What is up to date is not run again."""
    folder = root / "build" / "smoke" / "notebooks"
    with _once(folder, testrun_uid) as first:
        if first:
            run_notebooks(root / "experiments", folder, "smoke", jobs=2)
            write_includes(root / "experiments" / "records", folder.parent / "generated")
    return folder


@pytest.fixture(scope="session")
def built(root, executed, testrun_uid):
    """The book with the smallest profile's notebooks, built with every warning an error."""
    source = root / "build" / "smoke" / "book"
    with _once(source, testrun_uid) as first:
        if first:
            _build(root, source, executed)
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


@pytest.fixture(scope="session")
def screenshots(root, pytestconfig):
    """Folder for pictures of the pages, for whoever wants to look; None unless asked for."""
    if not pytestconfig.getoption("--screenshots"):
        return None
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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

"""All notebooks, executed once with the smallest profile; the book of them; a browser."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emastudy.study.report import write_includes
from emastudy.study.report.notebooks import run_notebooks


@pytest.fixture(scope="session")
def executed(root):
    """Folder of the executed notebooks. What is up to date is not run again."""
    folder = root / "build" / "smoke" / "notebooks"
    run_notebooks(root / "experiments", folder, "smoke", jobs=2)
    write_includes(root / "experiments" / "records", folder.parent / "generated")
    return folder


@pytest.fixture(scope="session")
def built(root, executed):
    """The book with the smallest profile's notebooks, built with every warning an error."""
    folder = root / "build" / "smoke"
    source = folder / "book"
    shutil.rmtree(source, ignore_errors=True)
    products = shutil.ignore_patterns("_build", "notebooks", "generated")
    shutil.copytree(root / "book", source, ignore=products)
    shutil.copytree(executed, source / "notebooks")
    shutil.copytree(folder / "generated", source / "generated")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return source / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        # No sandbox: CI runs as root in a container. No background traffic of the browser's own.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=path, args=arguments)

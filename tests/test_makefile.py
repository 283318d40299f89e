"""Setting up, on machines that are not as one expects; nothing is fetched."""

import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def checkout(root, tmp_path):
    """The files that setting up needs, in a folder whose name wants quoting."""
    folder = tmp_path / "a chéckout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    return folder


def set_up(checkout, PYTHON="true", *, expect, **variables):
    if shutil.which("make") is None:
        pytest.skip("no make")
    done = subprocess.run(
        ["make", ".venv/study", f"PYTHON={PYTHON}"],
        cwd=checkout,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


# A Python that does nothing but note what it is asked for.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> log
case "$*" in
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip --version") test -e pip ;;
  "-m ensurepip") test -z "$BARE" && touch pip ;;
esac
"""


def fake(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE)
    path.chmod(0o755)


def test_an_environment_without_pip_is_given_it(checkout):
    fake(checkout / ".venv" / "bin" / "python")
    set_up(checkout, expect=0)
    *_, mended, installed = (checkout / "log").read_text().splitlines()
    assert mended == "python -m ensurepip"
    assert installed.startswith("python -m pip install --quiet --constraint constraints.txt")


def test_an_environment_whose_python_has_gone_is_made_anew(checkout):
    fake(checkout / "usual python")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/no/python")
    (checkout / ".venv" / "study").touch()
    os.utime(checkout / ".venv" / "study", (0, 0))
    set_up(checkout, PYTHON="'./usual python'", expect=0)
    assert "usual python -m venv --clear .venv" in (checkout / "log").read_text().splitlines()
    assert (checkout / ".venv" / "study").exists()


def test_without_ensurepip_it_is_said_what_to_install(checkout):
    """As on Debian without python3-venv."""
    fake(checkout / ".venv" / "bin" / "python")
    said = set_up(checkout, BARE="1", expect=2)
    assert "install Python's ensurepip (on Debian and Ubuntu the package python3-venv)" in said


def test_what_others_have_put_on_the_path_does_not_count(checkout):
    python = checkout / ".venv" / "bin" / "python"
    fake(python)
    python.write_text(FAKE + 'echo "<$PYTHONPATH$PYTHONHOME>" >> log\n')
    set_up(checkout, PYTHONPATH="/elsewhere", PYTHONHOME="/no", expect=0)
    assert set((checkout / "log").read_text().splitlines()[1::2]) == {"<>"}


def test_a_python_that_is_too_old_is_named(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\n"
        f'exec "{sys.executable}" -c "import sys\n'
        "sys.version_info, sys.version = (3, 8), '3.8.1 (old)'\n"
        'exec(sys.argv.pop(1))" "$2" "$3"\n'
    )
    python.chmod(0o755)
    said = set_up(checkout, expect=2)
    assert "emastudy needs Python >= 3.11; " in said
    assert "is 3.8.1. Try: rm -r .venv; make PYTHON=python3.11" in said

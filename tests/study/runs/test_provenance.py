"""Where and with what a result was made."""

import subprocess

from study.tiny import make_record

import emastudy
from emastudy.engine import NUMBERS_VERSION
from emastudy.study.runs.provenance import circumstances


def test_circumstances_are_recorded(tiny):
    record = make_record(tiny)
    assert record.machine["precision"] == "float32"
    assert {"python", "torch", "torchvision", "accelerate"} <= set(record.versions)
    assert record.numbers == NUMBERS_VERSION


def test_the_commit_is_the_packages_own_not_that_of_a_project_it_is_installed_in(
    tmp_path, monkeypatch
):
    def git(*arguments):
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    (tmp_path / "emastudy").mkdir()
    monkeypatch.setattr(emastudy, "__file__", str(tmp_path / "emastudy" / "__init__.py"))
    git("init")
    git("commit", "--allow-empty", "-m", "another project")
    (tmp_path / "emastudy" / "__init__.py").touch()
    assert circumstances("float32")["commit"] == ""
    monkeypatch.setenv("EMASTUDY_COMMIT", "0123456789ab")
    assert circumstances("float32")["commit"] == "0123456789ab"
    git("add", ".")
    git("commit", "-m", "the package")
    commit = git("rev-parse", "HEAD").stdout[:12]
    assert circumstances("float32")["commit"] == commit
    (tmp_path / "emastudy" / "__init__.py").write_text("changed")
    assert circumstances("float32")["commit"] == f"{commit}+"

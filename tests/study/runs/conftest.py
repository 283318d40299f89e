"""Where runs are recorded, and a process that is at work on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emastudy.study.runs import survey, sweep

TESTS = str(Path(__file__).parents[2])
# A process that works on TINY and stands still in the middle of its evaluation.
STANDS_STILL = """
import sys; sys.path.insert(0, sys.argv[1])
from study.tiny import TINY
from emastudy.engine import Runtime
from emastudy.study.runs import run_one, sweep
evaluate = sweep.score
def slowly(*arguments, **options):
    print("evaluating", flush=True)
    sys.stdin.readline()
    return evaluate(*arguments, **options)
sweep.score = slowly
run_one(TINY, sys.argv[2], Runtime(runs_dir=sys.argv[3], device="cpu", threads=1))
"""


@pytest.fixture
def folders(tmp_path, runtime):
    """Folders of the profile's records and of the runs."""
    return tmp_path / "records" / "some", Path(runtime.runs_dir)


@pytest.fixture
def script(folders):
    """Starts a process from its source; sys.argv has this folder of tests and both folders."""

    def start(source, **options):
        return subprocess.Popen(
            [sys.executable, "-c", source, TESTS, *map(str, folders)], text=True, **options
        )

    return start


@pytest.fixture
def evaluating(script):
    """A process that has trained the tiny run and is scoring it."""
    pipe = subprocess.PIPE
    with script(STANDS_STILL, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == "evaluating\n"
        yield process
        process.kill()


@pytest.fixture
def trainings(monkeypatch):
    """The trainings that this process does, as they come back."""
    real, seen = sweep.train, []

    def spy(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(sweep, "train", spy)
    return seen


@pytest.fixture
def states(folders):
    """States of all runs by id, as they are when it is called."""

    def look():
        frame = survey(folders[0].parent, folders[1])
        return dict(zip(frame["id"], frame["state"], strict=True))

    return look


@pytest.fixture
def read_only():
    """Makes a folder read-only, for root too."""
    mounted = []

    def make(folder):
        if os.getuid():
            folder.chmod(0o555)
            return
        for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
            done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
            if done.returncode:
                pytest.skip("root may write anywhere, and may not mount here")
            mounted.append(folder)

    yield make
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)

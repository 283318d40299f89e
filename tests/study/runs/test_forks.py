"""Runs on CPUs are forked from one process, and otherwise on their own."""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from emastudy.study import SweepError
from emastudy.study.runs import complete

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux alone")


def test_a_run_that_is_killed_takes_no_other_along(tiny, runtime, tmp_path, monkeypatch):
    configs = [dataclasses.replace(tiny, seed=seed) for seed in range(3)]
    runtime = dataclasses.replace(runtime, device="cpu", threads=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMETHING", "of this sweep")

    def job(config, folder, runtime):
        if config.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        os.environ["CHANGED"] = os.environ.get("CHANGED", "") + "once"
        seen = {"process": os.getpid(), "parent": os.getppid(), "folder": str(Path.cwd())}
        seen |= {name: os.environ[name] for name in ("SOMETHING", "CHANGED")}
        (folder / f"{config.seed}.json").write_text(json.dumps(seen))

    def done(config):
        return (tmp_path / f"{config.seed}.json").exists()

    with pytest.raises(SweepError, match="1 of 3 runs failed"):
        complete(configs, done, job, tmp_path, runtime, "local cores=2")
    first, last = (json.loads((tmp_path / f"{seed}.json").read_text()) for seed in (0, 2))
    process = first.pop("process")
    assert process != last.pop("process")
    assert first == last  # what one changes the next does not find
    assert first == {
        "parent": first["parent"],
        "folder": str(tmp_path),
        "SOMETHING": "of this sweep",
        "CHANGED": "once",
    }
    with pytest.raises(ProcessLookupError):
        os.kill(first["parent"], 0)  # the server ended with its sweep

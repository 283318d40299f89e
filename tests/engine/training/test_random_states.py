"""Resuming where random states are not what they were."""

import json
import logging
import shutil

import pytest
import torch
from engine.tiny import TINY, at_loss, end, runtime

from emastudy.engine import checkpoints, train
from emastudy.files import sha256


def stop():
    raise KeyboardInterrupt


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was stopped at the 15th iteration, its newest checkpoint, and where it is."""
    place = runtime(tmp_path)
    with monkeypatch.context() as patch:
        at_loss(patch, 15, stop)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, place)
    folder, manifest = checkpoints.newest(place.run_dir(TINY))
    assert 0 < manifest.iteration < 15
    return place, folder


def rewrite(folder, change):
    """Change a checkpoint's random states, in its manifest too."""
    path = folder / "random_states_0.pkl"
    change(path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {p.name: sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_exact_resume_says_nothing(stopped, undisturbed, caplog):
    place, _ = stopped
    train(TINY, place)
    assert end(place) == undisturbed
    assert "not resumed exactly" not in caplog.text


def test_states_that_cannot_be_restored_are_said(stopped, caplog):
    """As where they hold arrays that this version of NumPy cannot read."""
    place, folder = stopped

    def spoil(path):
        states = torch.load(path, weights_only=False)
        torch.save({name: state for name, state in states.items() if "numpy" not in name}, path)

    rewrite(folder, spoil)
    with caplog.at_level(logging.WARNING):
        train(TINY, place)
    assert f"{folder} is not resumed exactly: the random state of the CPU could not" in caplog.text


def test_another_number_of_processes_is_said(stopped, caplog):
    place, folder = stopped
    rewrite(folder, lambda path: shutil.copy(path, folder / "random_states_1.pkl"))
    with caplog.at_level(logging.WARNING):
        train(TINY, place)
    assert "it was written by 2 processes, and this is one of 1" in caplog.text

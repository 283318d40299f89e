"""Checkpoints: whole or not there, the newest and the best kept, damage passed over."""

import dataclasses
import errno
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from engine.tiny import TINY, assert_same, end, runtime

from emastudy.engine import checkpoints, load_network, train
from emastudy.engine.training import Trainer
from emastudy.errors import CheckpointError, InputError, WriteError


def test_a_damaged_checkpoint_falls_back_loudly(tmp_path, caplog):
    place = runtime(tmp_path)
    whole = train(TINY, place)
    folder = place.run_dir(TINY)
    newest = folder / "checkpoint-000024"
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == [
        "checkpoint-000020",
        newest.name,
    ]
    model = newest / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        load_network(newest)
    with caplog.at_level(logging.WARNING):
        resumed = train(TINY, place)
    assert "damaged: model.safetensors" in caplog.text
    assert resumed.resumed_from == 20
    assert_same(resumed.network.state_dict(), whole.network.state_dict())

    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_network(folder)


def test_load_network_gives_the_trained_network(tmp_path):
    training = train(TINY, runtime(tmp_path))
    network, manifest = load_network(runtime(tmp_path).run_dir(TINY))
    assert manifest.config == TINY
    assert manifest.iteration == 24
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network(image), training.network.eval()(image))


def test_a_start_that_is_not_there_unfinished_or_another_network_is_named(tmp_path, monkeypatch):
    place = runtime(tmp_path)
    follower = dataclasses.replace(TINY, start_from=TINY.id, seed=1)
    with pytest.raises(
        CheckpointError, match="holds no whole checkpoint; start_from: train that run first"
    ):
        train(follower, place)
    train(TINY, place)
    with pytest.raises(CheckpointError, match=r"8 classes\) is not built like this one"):
        train(dataclasses.replace(follower, dataset_options={"num_classes": 4}), place)
    (place.run_dir(TINY) / "checkpoint-000024").rename(tmp_path / "away")
    with pytest.raises(CheckpointError, match="stopped at iteration 20 of 24; finish it first"):
        train(follower, place)


def test_the_last_k_and_the_best_are_kept(tmp_path, monkeypatch, caplog):
    scores = iter([10.0, 30.0, 20.0, 25.0, 5.0])
    monkeypatch.setattr(Trainer, "validate", lambda _: next(scores))
    place = runtime(tmp_path, keep_checkpoints=1, validate_every=5)
    done = train(TINY, place)
    assert done.curves["validation_miou"] == [(5, 10), (10, 30), (15, 20), (20, 25), (24, 5)]
    folder = place.run_dir(TINY)
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == [
        "checkpoint-000010",
        "checkpoint-000024",
    ]
    assert (folder / "best").resolve().name == "checkpoint-000010"
    assert load_network(folder / "best")[1].iteration == 10
    # The best is a checkpoint like others, where the newest is damaged.
    (folder / "checkpoint-000024" / "model.safetensors").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        network, manifest = load_network(folder)
    assert manifest.iteration == 10
    assert "damaged" in caplog.text


def test_the_newest_is_that_of_the_last_iteration_also_beyond_a_million(tmp_path):
    place = runtime(tmp_path, keep_checkpoints=1)
    train(TINY, place)
    folder = place.run_dir(TINY)
    (folder / "checkpoint-000024").rename(folder / "checkpoint-1000000")
    shutil.copytree(folder / "checkpoint-1000000", folder / "checkpoint-999900")
    assert checkpoints.newest(folder)[0].name == "checkpoint-1000000"


@pytest.fixture
def small_disk(tmp_path):
    """Makes file systems of a given size, which may be mounted anew with other options."""
    mounted = []

    def mount(options):
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        again = "remount," if mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small file system to fill: {done.stderr.strip()} (be root)")
        mounted[:] = [folder]
        return folder

    if os.name != "posix" or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("no small file system to fill: only root may mount one")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_saved(undisturbed, small_disk):
    """There is room for one checkpoint and a half (one takes 0.8 MB)."""
    disk = small_disk("size=1200k")
    place = runtime(disk)
    folder = place.run_dir(TINY)
    with pytest.raises(CheckpointError) as failed:
        train(TINY, place)
    for part in (str(folder), "Free space", "resumes from checkpoint-000010"):
        assert part in str(failed.value)
    assert [p.name for p in folder.glob("checkpoint-*")] == ["checkpoint-000010"]
    load_network(folder)
    small_disk("size=100m")
    assert train(TINY, place).resumed_from == 10
    assert end(place) == undisturbed


def test_a_full_disk_at_the_very_start_says_so(small_disk):
    disk = small_disk("size=100k")
    with (disk / "rest").open("wb") as file, pytest.raises(OSError, match="No space left"):
        file.write(bytes(200_000))
    with pytest.raises(WriteError, match="disk/.* cannot be written .*No space left"):
        train(TINY, runtime(disk))


def test_a_read_only_folder_is_refused_before_training_but_may_be_read(small_disk):
    place = runtime(small_disk("size=100m"))
    train(TINY, place)
    small_disk("ro,size=100m")
    assert train(TINY, place).resumed_from == 24  # complete: only loaded
    with pytest.raises(WriteError, match=r"Read-only file system.*--runs-dir"):
        train(dataclasses.replace(TINY, seed=1), place)
    small_disk("rw,size=100m")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/runs/scenes-ema-.* cannot be written"):
        train(TINY, runtime(tmp_path / "file" / "runs"))


def test_without_links_the_best_is_named_in_a_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    scores = iter([10.0, 30.0, 20.0, 25.0, 5.0])
    monkeypatch.setattr(Trainer, "validate", lambda _: next(scores))
    monkeypatch.setattr(Path, "symlink_to", refuse)
    place = runtime(tmp_path, keep_checkpoints=1, validate_every=5)
    train(TINY, place)
    folder = place.run_dir(TINY)
    assert (folder / "best").read_text() == "checkpoint-000010"
    assert load_network(folder / "best")[1].iteration == 10
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == [
        "checkpoint-000010",
        "checkpoint-000024",
    ]


def test_a_manifest_survives_json():
    manifest = checkpoints.Manifest(
        config=TINY,
        classes=("cat", "dog"),
        colors=((1, 2, 3), (4, 5, 6)),
        iteration=7,
        curves={"loss": [(5, 0.1)]},
        seconds=1.5,
        pending={"loss": [0.25, 0.5]},
        files={"a": "0"},
    )
    assert checkpoints.Manifest.from_json(manifest.to_json()) == manifest


def test_a_dataset_with_other_classes_is_refused(tmp_path):
    train(dataclasses.replace(TINY, iterations=1), runtime(tmp_path))
    (folder,) = tmp_path.glob("scenes-*")
    _, manifest = load_network(folder)
    assert len(manifest.load_dataset("", runtime(tmp_path))) == 3
    other = dataclasses.replace(manifest, classes=manifest.classes[::-1])
    with pytest.raises(InputError, match="the network was trained for .*, in this order"):
        other.load_dataset("", runtime(tmp_path))

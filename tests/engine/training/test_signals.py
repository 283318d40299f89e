"""Signals, lost data and full disks: what is said of them, and that the run resumes bitwise."""

import dataclasses
import errno
import multiprocessing
import signal
import threading

import pytest
import torch
from engine.tiny import TINY, at_loss, end, runtime

from emastudy.engine import checkpoints, train
from emastudy.errors import CheckpointError, InputError, LoadingError, MissingFileError


@pytest.mark.parametrize("iteration", [1, 7, 20, 24])  # not only where there is a look
@pytest.mark.parametrize(
    ("number", "left_by"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_the_iteration_and_is_obeyed(
    number, left_by, iteration, undisturbed, tmp_path, monkeypatch, caplog
):
    place = runtime(tmp_path, checkpoint_seconds=3600.0)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        at_loss(patch, iteration, lambda: signal.raise_signal(number))
        with pytest.raises(left_by) as left:
            train(TINY, place)
    assert left_by is KeyboardInterrupt or left.value.code == 143
    assert f"stopped by {number.name} after iteration {iteration} of 24" in caplog.text
    assert checkpoints.newest(place.run_dir(TINY))[1].iteration == iteration
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert train(TINY, place).resumed_from == iteration
    assert end(place) == undisturbed


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_loss(monkeypatch, 5, twice)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, runtime(tmp_path))
    assert checkpoints.newest(runtime(tmp_path).run_dir(TINY)) is None


def test_ignored_signals_stay_ignored(tmp_path, monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_loss(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGINT))
        assert len(train(TINY, runtime(tmp_path)).curves["loss"]) == 3
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_outside_the_main_thread_needs_no_signals(undisturbed, tmp_path):
    thread = threading.Thread(target=train, args=(TINY, runtime(tmp_path)))
    thread.start()
    thread.join()
    assert end(runtime(tmp_path)) == undisturbed


def test_a_disk_that_fills_under_the_log_is_explained(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("accelerate.Accelerator.log", full)
    with pytest.raises(CheckpointError, match="cannot be written .*No space left"):
        train(TINY, runtime(tmp_path))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_vanishes_in_mid_run(workers, voc_root, tmp_path, monkeypatch):
    config = dataclasses.replace(
        TINY, dataset="voc2012", dataset_options={}, eval_images=0,
        backbone="mobilenet_v2", output_stride=16, iterations=12,
    )  # fmt: skip
    place = runtime(tmp_path / "runs", data_root=str(voc_root), workers=workers)
    images, away = voc_root / "JPEGImages", voc_root / "away"
    with monkeypatch.context() as patch:
        at_loss(patch, 5, lambda: images.rename(away))
        with pytest.raises(MissingFileError) as failed:
            train(config, place)
    message = str(failed.value)
    assert "JPEGImages/2007_" in message
    assert f"Is {voc_root} still there and mounted? Start run {config.id} again" in message
    assert "\n" not in message
    away.rename(images)
    assert len(train(config, place).curves["loss"]) == 2


def test_a_loading_process_that_is_killed(undisturbed, tmp_path, monkeypatch):
    def kill_worker():
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()  # else word of its death may come when the next training has begun

    place = runtime(tmp_path, workers=1)
    with monkeypatch.context() as patch:
        at_loss(patch, 12, kill_worker)
        with pytest.raises(LoadingError, match=r"loads data died.*fewer workers \(now 1.*resumes"):
            train(TINY, place)
    assert train(TINY, place).resumed_from == 10
    assert end(place) == undisturbed


def test_a_gpu_that_is_too_small_is_explained(tmp_path, monkeypatch):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    at_loss(monkeypatch, 5, full)
    with pytest.raises(InputError, match=r"images_per_step is 0 .* fewer of the 2 at once"):
        train(TINY, runtime(tmp_path))


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"head": "deeplabv3", "batch_size": 1}, {}),
        ({"head": "pspnet", "batch_size": 3}, {"images_per_step": 2}),
    ],
)
def test_a_single_value_under_batch_norm_is_explained(change, options, tmp_path):
    """A pooled map of one image; the third image of three is computed alone."""
    config = dataclasses.replace(TINY, head_options={"channels": 16}, **change)
    with pytest.raises(InputError, match=r"batch_size is \d, images_per_step \d .*freeze_bn=True"):
        train(config, runtime(tmp_path, **options))
    frozen = dataclasses.replace(config, freeze_bn=True, iterations=2)
    assert train(frozen, runtime(tmp_path, **options)).curves["loss"]

"""Whatever stops a run, it goes on as if nothing had been: same weights, optimiser, random states.

The end of a run is compared by the SHA-256 of the files of its last checkpoint (network and bases,
optimiser, schedule) and by torch's random state, to the last bit.
"""

import dataclasses
import errno
import logging
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

from emastudy.engine import (
    CheckpointError,
    NonFiniteLossError,
    RunConfig,
    Runtime,
    checkpoints,
    load_network,
    train,
)
from emastudy.engine.build import build_network, load_dataset
from emastudy.engine.training import parallel as division
from emastudy.engine.training import trainer as training
from emastudy.engine.training.parallel import segmentation_loss

# Dropout is on, so that random states matter, and the unit's first conv learns.
TINY = RunConfig(
    head="ema",
    head_options={"channels": 16, "num_bases": 4, "gradient": "unrolled", "dropout": 0.3},
    dataset_options={"size": 32},
    crop_size=32,
    batch_size=2,
    iterations=24,
    eval_images=3,
    scales=(0.75, 1.0, 1.25),
    precision="float32",
    learning_rate=0.05,
)


def runtime(folder, **options):
    options = {"checkpoint_seconds": 0.0, "threads": 1, **options}
    return Runtime(runs_dir=str(folder), device="cpu", **options)


def end(place, config=TINY):
    """What the last checkpoint holds, to the last bit."""
    found = checkpoints.newest(place.run_dir(config))
    assert found is not None
    folder, manifest = found
    assert manifest.iteration == config.iterations
    files: dict[str, object] = dict(manifest.files)
    for name in [name for name in files if name.startswith("random_states")]:
        # Beside torch's random state it has Python's and NumPy's, which training does not draw
        # from but imports may, once a process.
        state = torch.load(folder / name, weights_only=False)["torch_manual_seed"]
        files[name] = state.numpy().tobytes()
    return files, manifest.curves, manifest.pending


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = runtime(tmp_path_factory.mktemp("undisturbed"))
    train(TINY, place)
    files, curves, pending = end(place)
    assert {"model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"} == set(
        files
    )
    assert len(curves["conv1_gradient"]) == 3
    return files, curves, pending


class At:
    """Does something in the n-th forward pass from now on."""

    def __init__(self, monkeypatch, number, action):
        self.number, self.action, self.calls = number, action, 0
        monkeypatch.setattr(division, "segmentation_loss", self)

    def __call__(self, logits, mask, valid):
        self.calls += 1
        if self.calls == self.number:
            self.action()
        return segmentation_loss(logits, mask, valid)


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
        At(patch, iteration, lambda: signal.raise_signal(number))
        with pytest.raises(left_by) as left:
            train(TINY, place)
    assert left_by is KeyboardInterrupt or left.value.code == 143
    assert f"stopped by {number.name} after iteration {iteration} of 24" in caplog.text
    assert f"checkpoint-{iteration:06d}" in caplog.text
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert train(TINY, place).resumed_from == iteration
    assert end(place) == undisturbed


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    At(monkeypatch, 5, twice)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, runtime(tmp_path))
    assert checkpoints.newest(runtime(tmp_path).run_dir(TINY)) is None


def test_ignored_signals_stay_ignored(tmp_path, monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        At(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGINT))
        assert len(train(TINY, runtime(tmp_path)).curves["loss"]) == 3
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_outside_the_main_thread_needs_no_signals(undisturbed, tmp_path):
    thread = threading.Thread(target=train, args=(TINY, runtime(tmp_path)))
    thread.start()
    thread.join()
    assert end(runtime(tmp_path)) == undisturbed


# Children are forked from a server that has imported everything once.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["emastudy.engine", "torch.utils.tensorboard", "torch._dynamo", "pytest"]
)


def child(config, place, begun=None, environment=None):
    """A training process that says when it trains; checkpoints come every other iteration."""
    os.environ.update(environment or {})
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - as long as the process
    torch.set_num_threads(1)
    training._LOOK_EVERY = 2
    if begun:

        def loss(*inputs):
            begun.set()
            return segmentation_loss(*inputs)

        division.segmentation_loss = loss
    train(config, place)


def test_kill_9_at_twenty_moments(tmp_path, monkeypatch):
    """Most of them hit the writing of a checkpoint: here that takes most of the time."""
    config = dataclasses.replace(TINY, iterations=200)
    place = runtime(tmp_path / "killed")
    moments = random.Random(0)
    reached = []
    for _ in range(20):
        begun = FORK.Event()
        process = FORK.Process(target=child, args=(config, place, begun))
        process.start()
        assert begun.wait(120)
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        found = checkpoints.newest(place.run_dir(config))
        reached.append(found[1].iteration if found else 0)
    assert reached == sorted(reached)  # nothing that was kept is lost
    monkeypatch.setattr(training, "_LOOK_EVERY", 2)
    assert train(config, place).resumed_from == reached[-1]
    assert not list(place.run_dir(config).glob("*.partial"))
    whole = runtime(tmp_path / "whole")
    train(config, whole)
    assert end(place, config) == end(whole, config)


def test_several_processes_stop_together_and_resume_exactly(tmp_path):
    """A signal to one of two processes; dropout is on, and each has its own random state."""

    def run(place, stop=False, processes=2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        begun, started = FORK.Event(), []
        for rank in map(str, range(processes)):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(processes),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
            arguments = (TINY, place, begun if rank == "1" else None, world)
            started.append(FORK.Process(target=child, args=arguments))
            started[-1].start()
        if stop:
            assert begun.wait(120)
            os.kill(started[1].pid, signal.SIGTERM)
        for process in started:
            process.join(120)
        return [process.exitcode for process in started]

    whole, stopped = runtime(tmp_path / "whole"), runtime(tmp_path / "stopped")
    assert run(whole) == [0, 0]
    assert run(stopped, stop=True) == [143, 143]
    found = checkpoints.newest(stopped.run_dir(TINY))
    assert found is not None
    assert 0 < found[1].iteration < 24
    assert run(stopped) == [0, 0]
    assert end(stopped) == end(whole)
    assert "random_states_1.pkl" in end(whole)[0]


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
    for part in (str(folder), "Free space", "goes on from checkpoint-000010"):
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
    with pytest.raises(CheckpointError, match="disk/.* cannot be written .*no checkpoint yet"):
        train(TINY, runtime(disk))


def test_a_read_only_folder_is_refused_before_training_but_may_be_read(small_disk):
    place = runtime(small_disk("size=100m"))
    train(TINY, place)
    small_disk("ro,size=100m")
    assert train(TINY, place).resumed_from == 24  # complete: only loaded
    with pytest.raises(CheckpointError, match=r"Read-only file system.*--runs-dir"):
        train(dataclasses.replace(TINY, seed=1), place)
    small_disk("rw,size=100m")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/runs/scenes-ema-.* cannot be written"):
        train(TINY, runtime(tmp_path / "file" / "runs"))


def test_a_disk_that_fills_under_the_log_is_explained(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("accelerate.Accelerator.log", full)
    with pytest.raises(CheckpointError, match="cannot be written .*No space left"):
        train(TINY, runtime(tmp_path))


def test_a_clock_that_runs_backwards_changes_nothing(undisturbed, tmp_path, monkeypatch):
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    place = runtime(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", backwards)
        At(patch, 15, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            train(TINY, place)
    for age, folder in enumerate(sorted(place.run_dir(TINY).glob("checkpoint-*"))):
        for file in (folder, *folder.iterdir()):
            os.utime(file, (1e9 - age, 1e9 - age))  # the newest looks oldest
    again = train(TINY, place)
    assert again.resumed_from == 15
    assert again.seconds > 0
    assert end(place) == undisturbed


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_vanishes_in_mid_run(workers, voc_root, tmp_path, monkeypatch):
    config = dataclasses.replace(
        TINY, dataset="voc2012", dataset_options={}, backbone="mobilenet_v2", output_stride=16,
        iterations=12,
    )  # fmt: skip
    place = runtime(tmp_path / "runs", data_root=str(voc_root), workers=workers)
    images, away = voc_root / "JPEGImages", voc_root / "away"
    with monkeypatch.context() as patch:
        At(patch, 5, lambda: images.rename(away))
        with pytest.raises(FileNotFoundError) as failed:
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
        At(patch, 12, kill_worker)
        with pytest.raises(RuntimeError, match=r"loads data died.*fewer workers \(now 1.*goes on"):
            train(TINY, place)
    assert train(TINY, place).resumed_from == 10
    assert end(place) == undisturbed


@pytest.mark.parametrize(("head", "named"), [("ema", "conv1_gradient"), ("fcn", "tensor ")])
def test_nan_gradients_never_reach_a_checkpoint(head, named, tmp_path, monkeypatch):
    """The loss of the tenth iteration is finite, and a checkpoint due: its weights are not."""
    config = dataclasses.replace(TINY, head=head, head_options={"channels": 16})
    if head == "ema":
        config = dataclasses.replace(TINY)
    calls = []

    def poisoned(logits, *rest):
        calls.append(1)
        if len(calls) == 10:
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return segmentation_loss(logits, *rest)

    monkeypatch.setattr(division, "segmentation_loss", poisoned)
    with pytest.raises(NonFiniteLossError, match=f"the {named}.* at iteration 10 of run.*Lower"):
        train(config, runtime(tmp_path))
    assert checkpoints.newest(runtime(tmp_path).run_dir(config)) is None


def test_the_last_k_and_the_best_are_kept(tmp_path, monkeypatch, caplog):
    scores = iter([10.0, 30.0, 20.0, 25.0, 5.0])
    monkeypatch.setattr(training, "_validate", lambda *_: next(scores))
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


def test_validation_leaves_no_trace_in_training(undisturbed, tmp_path):
    """Every third iteration, so also between two looks; at another output stride."""
    place = runtime(tmp_path, validate_every=3)
    train(TINY, place)
    files, curves, pending = end(place)
    validation = curves.pop("validation_miou")
    assert [iteration for iteration, _ in validation] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert len({value for _, value in validation}) > 1
    assert (files, curves, pending) == undisturbed


def test_gradients_of_bases_and_first_conv_are_recorded_where_they_are(tmp_path):
    learned = {**TINY.head_options, "maintenance": "learned"}
    config = dataclasses.replace(TINY, head_options=learned, iterations=1)
    curves = train(config, runtime(tmp_path)).curves
    # The same gradients by hand: one iteration from the same weights, data and dropout.
    torch.manual_seed(config.seed)
    network = build_network(config, 8).to(memory_format=torch.channels_last).train()
    stream = training.TrainingStream(
        load_dataset(config, "train", Runtime()),
        training.training_transform(
            load_dataset(config, "train", Runtime()), scales=config.scales, crop_size=32
        ),
        seed=0,
        start=0,
        stop=2,
    )
    image, mask = (torch.stack(parts) for parts in zip(*stream, strict=True))
    segmentation_loss(network(image.to(memory_format=torch.channels_last)), mask).backward()
    unit = network.head.context
    assert curves["bases_gradient"] == [(1, pytest.approx(unit.bases.grad.norm().item()))]
    conv = torch.cat([p.grad.flatten() for p in unit.conv1.parameters()]).norm().item()
    assert curves["conv1_gradient"] == [(1, pytest.approx(conv))]
    detached = dataclasses.replace(config, head_options={"channels": 16})
    assert set(train(detached, runtime(tmp_path)).curves) == {"loss", "learning_rate"}

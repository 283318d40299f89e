"""On GPUs: the same trajectory on one and two, mixed precision, memory and throughput.

``pytest -m gpu -s`` prints what it measures. Nothing here is decided by timing.
"""

import dataclasses
import os
import sys
import time

import pytest
import torch

from emastudy.engine import RunConfig, Runtime, evaluate, load_network, train
from emastudy.engine.build import load_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CONFIG = RunConfig(
    head="ema",
    head_options={"channels": 64, "num_bases": 16, "gradient": "one_step", "dropout": 0.0},
    batch_size=12,
    iterations=20,
    eval_images=12,
    precision="float32",
    learning_rate=0.05,
)


@pytest.fixture(autouse=True)
def plain_float32(monkeypatch):
    """TensorFloat32 would round what is to be compared."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def say(text):
    sys.stdout.write(f"\n{text}\n")


def losses(curves):
    return [value for _, value in curves["loss"]]


def test_one_gpu_follows_the_cpu(tmp_path):
    """A few steps: float32 sums in another order, and training amplifies it."""
    config = dataclasses.replace(CONFIG, iterations=5)
    on_cpu = train(config, Runtime(runs_dir=str(tmp_path / "cpu"), device="cpu"))
    # Accelerate's choice of device is made once a process.
    on_gpu = _in_processes(config, Runtime(runs_dir=str(tmp_path / "gpu")), 1)
    assert losses(on_gpu) == pytest.approx(losses(on_cpu.curves), rel=1e-3)


@pytest.mark.parametrize("freeze_bn", [True, False], ids=["frozen", "SyncBatchNorm"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_follow_one(freeze_bn, tmp_path):
    config = dataclasses.replace(CONFIG, freeze_bn=freeze_bn)
    one = _in_processes(config, Runtime(runs_dir=str(tmp_path / "one")), 1)
    two = _in_processes(config, Runtime(runs_dir=str(tmp_path / "two")), 2)
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_resumes(precision, tmp_path):
    config = dataclasses.replace(CONFIG, precision=precision, iterations=40)
    runtime = Runtime(runs_dir=str(tmp_path))
    curves = _in_processes(config, runtime, 1)
    assert losses(curves)[-1] < losses(curves)[0]
    assert all(torch.isfinite(torch.tensor(losses(curves))))
    network, manifest = load_network(runtime.run_dir(config))
    assert ("scaler.pt" in manifest.files) == (precision == "fp16")
    dataset = load_dataset(config, "val", runtime)
    assert 0 < evaluate(network.cuda(), dataset, **runtime.scoring(config)).miou <= 100


def test_accumulation_needs_less_memory(tmp_path):
    config = dataclasses.replace(CONFIG, freeze_bn=True, crop_size=256, iterations=3)
    config = dataclasses.replace(config, dataset_options={"size": 256})
    peak, curves = {}, {}
    for images in (0, 3):
        runtime = Runtime(runs_dir=str(tmp_path / str(images)), images_per_step=images)
        curves[images] = _in_processes(config, runtime, 1)
        peak[images] = float((tmp_path / str(images) / "peak").read_text())
    say(f"peak memory of 12 crops of 256×256: {peak[0]:.0f} MiB; 3 at a time: {peak[3]:.0f} MiB")
    assert losses(curves[3]) == pytest.approx(losses(curves[0]), rel=1e-4)
    assert peak[3] < 0.5 * peak[0]


@pytest.mark.parametrize("compile_", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_throughput_of_the_papers_network(precision, compile_, tmp_path):
    config = dataclasses.replace(
        CONFIG, head_options={}, backbone="resnet50", output_stride=16, crop_size=513,
        dataset_options={"size": 513}, batch_size=8, precision=precision, learning_rate=0.009,
    )  # fmt: skip
    runtime = Runtime(runs_dir=str(tmp_path), compile=compile_, workers=8)
    began = time.monotonic()
    curves = _in_processes(config, runtime, 1)
    peak = float((tmp_path / "peak").read_text())
    _, manifest = load_network(runtime.run_dir(config))
    say(
        f"EMANet on ResNet-50, 8 crops of 513×513, {precision}"
        f"{', compiled' if compile_ else ''}: {8 * 20 / manifest.seconds:.1f} images/s start "
        f"included, {peak:.0f} MiB, {time.monotonic() - began:.0f} s in all"
    )
    assert all(torch.isfinite(torch.tensor(losses(curves))))


def _train(rank, world, port, config, runtime):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    training = train(config, runtime)
    if rank == 0:
        device = next(training.network.parameters()).device
        assert device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(device) / 2**20
        (runtime.run_dir(config).parent / "peak").write_text(str(peak))


def _in_processes(config, runtime, world):
    """Train on so many GPUs, in processes of their own, and return the curves."""
    port = 29500 + os.getpid() % 1000
    torch.multiprocessing.spawn(_train, (world, port, config, runtime), nprocs=world)
    return load_network(runtime.run_dir(config))[1].curves

"""On a GPU: what trains, resumes, scores and predicts on the CPU does the same there.

``make test-gpu`` runs these and prints what they measure; nothing is decided by timing. With
GPU_TESTS_ON=cpu the CPU takes the GPU's part, so that the tests themselves can be tested.
"""

import copy
import dataclasses
import os
import sys

import pytest
import torch
from engine.tiny import at_loss
from torch import distributed, nn
from torch.profiler import ProfilerActivity, profile

from emastudy import EMAU, networks
from emastudy.engine import RunConfig, Runtime, evaluate, load_dataset, load_network, predict, train
from emastudy.engine.training import Trainer

DEVICE = os.environ.get("GPU_TESTS_ON", "cuda")
# Read when cuBLAS is first used; deterministic algorithms want it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
    # Libraries warn of many things on GPUs that are not tested here.
    pytest.mark.filterwarnings("default"),
]
on_gpus_alone = pytest.mark.skipif(DEVICE != "cuda", reason="there is none of it for CPUs")
HALVES = ["bf16", pytest.param("fp16", marks=on_gpus_alone)]

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
def plain_float32():
    """TensorFloat32 would round what is to be compared."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    _no_tensor_float32()
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def place(folder, **options):
    """Where a run happens: on the GPU, unless the CPU takes its part."""
    options = {"device": "auto" if DEVICE == "cuda" else "cpu", **options}
    return Runtime(runs_dir=str(folder), **options)


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


def losses(curves):
    return [value for _, value in curves["loss"]]


def trained(config, runtime):
    """The training, once it is sure to have happened where it should."""
    training = train(config, runtime)
    expected = "cpu" if runtime.device == "cpu" else "cuda"
    assert next(training.network.parameters()).device.type == expected
    return training


def say(text):
    sys.stdout.write(f"\n{text}\n")


def test_one_gpu_follows_the_cpu(tmp_path):
    """A few steps: float32 sums in another order, and training amplifies it."""
    config = changed(iterations=5)
    on_cpu = trained(config, place(tmp_path / "cpu", device="cpu"))
    on_gpu = trained(config, place(tmp_path / "gpu"))
    assert losses(on_gpu.curves) == pytest.approx(losses(on_cpu.curves), rel=1e-3)
    assert all(
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in on_gpu.network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    )


@pytest.mark.parametrize("precision", ["float32", *HALVES])
def test_a_stopped_run_goes_on_bitwise_with_deterministic_algorithms(
    precision, deterministic, tmp_path, monkeypatch
):
    config = changed(precision=precision, iterations=24)
    whole = trained(config, place(tmp_path / "whole"))
    assert losses(whole.curves)[-1] < losses(whole.curves)[0]
    stopped = place(tmp_path / "stopped", checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        at_loss(patch, 15, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, stopped)
    resumed = trained(config, stopped)
    assert resumed.resumed_from == 10
    assert resumed.curves == whole.curves
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    _, manifest = load_network(stopped.run_dir(config))
    assert ("scaler.pt" in manifest.files) == (precision == "fp16")


def test_a_run_moves_from_cpu_to_gpu_and_back(tmp_path, monkeypatch):
    """Scores of the same weights agree within 0.1 % mIoU, and nearly all pixels of a prediction."""
    config = changed(iterations=60)
    on_cpu = place(tmp_path, device="cpu", checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        at_loss(patch, 25, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, on_cpu)
    there = trained(config, place(tmp_path))
    assert there.resumed_from == 20
    assert all(map(torch.isfinite, map(torch.tensor, losses(there.curves))))
    assert losses(there.curves)[-1] < losses(there.curves)[0]

    back, _ = load_network(on_cpu.run_dir(config))
    assert next(back.parameters()).device.type == "cpu"
    dataset = load_dataset(config, "val", on_cpu)
    scoring = on_cpu.scoring(config)
    here, on_gpu = (evaluate(n, dataset, **scoring) for n in (back, there.network))
    assert here.miou > 10
    assert abs(here.miou - on_gpu.miou) <= 0.1
    image, _ = dataset[0]
    same = predict(back, image, dataset).cpu() == predict(there.network, image, dataset).cpu()
    assert same.float().mean() > 0.999
    assert trained(config, on_cpu).resumed_from == 60  # the GPU's checkpoint is the CPU's


@pytest.mark.parametrize("precision", HALVES)
def test_scores_in_half_precision_are_those_in_float32(precision, tmp_path):
    training = trained(changed(precision=precision, iterations=60), place(tmp_path))
    dataset = load_dataset(CONFIG, "val", place(tmp_path))
    exact, half = (
        evaluate(training.network, dataset, output_stride=4, dtype=dtype, workers=0).miou
        for dtype in (None, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])
    )
    assert exact > 10
    assert half == pytest.approx(exact, abs=0.5)


@pytest.mark.unchecked
def test_a_compiled_run_follows_the_one_that_is_not(tmp_path):
    config = changed(iterations=5)
    plain = trained(config, place(tmp_path / "plain"))
    compiled = trained(config, place(tmp_path / "compiled", compile=True))
    assert losses(compiled.curves) == pytest.approx(losses(plain.curves), rel=1e-3)


@pytest.mark.parametrize("gradient", ["detached", "one_step", "unrolled"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("how", ["autocast", "half"])
def test_the_unit_in_half_precision_is_the_unit_up_to_rounding(how, dtype, gradient):
    torch.manual_seed(0)
    single = EMAU(64, 16, gradient=gradient).to(DEVICE).train()
    unit = copy.deepcopy(single)
    features = torch.randn(2, 64, 17, 19, device=DEVICE).to(memory_format=torch.channels_last)
    if how == "half":
        unit.to(dtype)
        output = unit(features.to(dtype))
    else:
        with torch.autocast(DEVICE, dtype):
            output = unit(features)
    expected = single(features)
    assert output.is_contiguous(memory_format=torch.channels_last)
    rounding = 10 * torch.finfo(dtype).eps
    assert (output.float() - expected).norm() < rounding * expected.norm()
    assert unit.bases.dtype == (dtype if how == "half" else torch.float32)
    assert (unit.bases.float() - single.bases).norm() < rounding * single.bases.norm()
    for result in (output, expected):
        result.float().square().mean().backward()
    ours, theirs = unit.conv2.weight.grad.float(), single.conv2.weight.grad
    assert (ours - theirs).norm() < 5 * rounding * theirs.norm()


def test_the_unit_is_the_same_on_both_devices():
    torch.manual_seed(0)
    unit = EMAU(64, 16, gradient="unrolled").train()
    there = copy.deepcopy(unit).to(DEVICE)
    features = torch.randn(2, 64, 33, 33)
    expected, found = unit(features), there(features.to(DEVICE))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(there.bases.cpu(), unit.bases, rtol=1e-4, atol=1e-5)


@on_gpus_alone
def test_synchronised_batch_norm_of_one_process_is_batch_norm(tmp_path):
    torch.manual_seed(0)
    network = networks.build(
        "ema", backbone="small_resnet", num_classes=5, output_stride=4, channels=16, dropout=0.0
    )
    network.to(DEVICE).train()
    image = torch.randn(4, 3, 64, 64, device=DEVICE)
    alone = copy.deepcopy(network)
    distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        together = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
        found = together(image)
        found.square().mean().backward()
    finally:
        distributed.destroy_process_group()
    expected = alone(image)
    expected.square().mean().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(together.named_parameters(), alone.parameters(), strict=True):
        if theirs.grad is not None:
            difference = (ours.grad - theirs.grad).norm()
            assert difference <= 1e-3 * theirs.grad.norm() + 1e-6, name
    torch.testing.assert_close(dict(together.named_buffers()), dict(alone.named_buffers()))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_a_step_reads_nothing_back_from_the_gpu(gradient, precision, tmp_path, monkeypatch):
    """Between the looks at the loss, one in ten iterations. (float16 must ask for overflows.)"""
    options = {**CONFIG.head_options, "gradient": gradient}
    config = changed(head_options=options, precision=precision, iterations=14)
    step, read = Trainer._step, []

    def watched(self, *arguments):
        if self.iteration < 11:
            return step(self, *arguments)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            try:
                step(self, *arguments)
            finally:
                if DEVICE == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
        names = {event.key for event in seen.key_averages()}
        assert "aten::convolution" in names
        read.append(names & {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero"})
        return None

    monkeypatch.setattr(Trainer, "_step", watched)
    trained(config, place(tmp_path))
    assert read == [set(), set(), set()]


@on_gpus_alone
def test_accumulation_needs_less_memory(tmp_path):
    config = changed(freeze_bn=True, crop_size=256, iterations=3, dataset_options={"size": 256})
    peak, curves = {}, {}
    for images in (0, 3):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        curves[images] = trained(config, place(tmp_path / str(images), images_per_step=images))
        peak[images] = (torch.cuda.max_memory_allocated() - before) / 2**20
    say(f"peak memory of 12 crops of 256×256: {peak[0]:.0f} MiB; 3 at a time: {peak[3]:.0f} MiB")
    three, all_at_once = losses(curves[3].curves), losses(curves[0].curves)
    assert three == pytest.approx(all_at_once, rel=1e-4)
    assert peak[3] < 0.5 * peak[0]


@pytest.mark.parametrize("freeze_bn", [True, False], ids=["frozen", "SyncBatchNorm"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_follow_one(freeze_bn, tmp_path):
    config = changed(freeze_bn=freeze_bn)
    one = trained(config, place(tmp_path / "one"))
    two = place(tmp_path / "two")
    port = 29500 + os.getpid() % 1000
    torch.multiprocessing.spawn(_train, (2, port, config, two), nprocs=2)
    curves = load_network(two.run_dir(config))[1].curves
    assert losses(curves) == pytest.approx(losses(one.curves), rel=1e-3)


def _train(rank, world, port, config, runtime):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    _no_tensor_float32()
    train(config, runtime)


def _no_tensor_float32():
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")

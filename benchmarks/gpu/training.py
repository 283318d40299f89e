"""Stages "waits" and "throughput": a training step, as ``engine.train`` takes it."""

import dataclasses
import itertools
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.kernels import matmul_rate, take_turns
from benchmarks.gpu.place import Place, computing, reason, say
from emastudy.datasets import IGNORE, SegmentationDataset
from emastudy.engine import RunConfig, Runtime, build_network, train
from emastudy.engine.build import build_accelerator, build_optimizer
from emastudy.engine.training import Trainer, trainer
from emastudy.study.recipes import RECIPES
from emastudy.study.tables import estimate

CLASSES = 21
#: Iterations that are looked at, between two looks of the loop at its loss.
_SEEN = range(11, 15)
#: What the host does when it waits for a number of the GPU, or of the CPU where there is none.
_WAITS = (
    "aten::_local_scalar_dense",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "Memcpy DtoH (Device -> Pageable)",
    "Memcpy DtoH (Device -> Pinned)",
)


def waits(place: Place) -> None:
    """How often one step waits, by profile, and where, by CUDA's own watch."""
    results = place.results("waits")
    cuda = place.device.type == "cuda"
    for precision in ("bf16", *(("float32", "fp16") if cuda else ())):
        for gradient in ("detached", "unrolled"):
            name = f"{gradient}, {precision}"
            if name in results or place.over:
                continue
            config = RunConfig(
                head_options={"channels": 64, "num_bases": 16, "gradient": gradient},
                batch_size=2, iterations=_SEEN.stop, precision=precision,
            )  # fmt: skip
            seen: Counter[str] = Counter()
            places: set[str] = set()
            watched = _watching(seen, places, cuda=cuda)
            with (
                tempfile.TemporaryDirectory() as folder,
                mock.patch.object(trainer, "Trainer", watched),
            ):
                train(config, Runtime(runs_dir=folder, device="auto" if cuda else "cpu"))
            steps = len(_SEEN) // 2
            found = {event: count / steps for event, count in seen.items()}
            results.keep(name, {"per_step": found, "where": sorted(places)})
            say(f"waits in a step, {name}: {found or 'none'}")


def _watching(seen: Counter[str], places: set[str], *, cuda: bool) -> type[Trainer]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]

    class Watched(Trainer):
        def _step(self, parts: Sequence[Any], sizes: Sequence[int]) -> None:
            if self.iteration not in _SEEN:
                super()._step(parts, sizes)
            elif self.iteration % 2:
                with profile(activities=activities) as profiled:
                    super()._step(parts, sizes)
                for event in profiled.key_averages():
                    if event.key in _WAITS:
                        seen[event.key] += event.count
            elif cuda:
                torch.cuda.set_sync_debug_mode("warn")
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    super()._step(parts, sizes)
                torch.cuda.set_sync_debug_mode("default")
                places.update(f"{w.filename}:{w.lineno}: {w.message}" for w in caught)
            else:
                super()._step(parts, sizes)

    return Watched


def throughput(place: Place) -> None:
    """Steps of EMANet on random images: the engine's beside a plain loop's, then compiled."""
    results = place.results("throughput")
    sizes = place.sizes
    pairs = [(), ("compiled",)] if sizes.compiled else [()]
    for more, backbone, batch in itertools.product(pairs, sizes.backbones, sizes.training_batches):
        name = ", ".join([backbone, f"batch {batch}", *more])
        if name in results:
            continue
        if place.over:
            return
        results.keep(name, _measure(backbone, batch, place, compiled=bool(more)))
        for way, row in results[name]["ways"].items():
            if "error" in row:
                say(f"{name}: {way} failed ({row['error']})")
            else:
                say(
                    f"{name}: {way} {row['images_per_second']:.1f} images/s, {row['mib']:.0f} MiB, "
                    f"{row['share_of_limit']:.0%} of the card's limit in bfloat16"
                )


def _measure(backbone: str, batch: int, place: Place, *, compiled: bool) -> dict[str, Any]:
    """What a step takes, the default's beside another's."""
    config = dataclasses.replace(
        RECIPES["voc_ablation"](backbone=backbone), batch_size=batch,
        crop_size=place.sizes.crop, pretrained=False, dataset="scenes",
    )  # fmt: skip
    if backbone == "small_resnet":  # for --tiny: it knows no stride but its own
        config = dataclasses.replace(config, output_stride=4)
    macs = estimate(config, num_classes=CLASSES).macs / config.iterations
    limit = matmul_rate("bf16", place)
    batches = [_random_batch(batch, place) for _ in range(4)]
    makers: dict[str, Callable[[], Callable[[Any], None]]] = {
        "default": lambda: _engine_step(config, place, compiled=False)
    }
    if compiled:
        makers["compiled"] = lambda: _engine_step(config, place, compiled=True)
    else:
        makers["plain"] = lambda: _plain_step(config, place)
    rows: dict[str, dict[str, Any]] = {}
    calls = {}
    for way, make in makers.items():
        try:
            before = _memory(place)
            step = make()
            for item in batches[:2]:  # compiles, finds algorithms, fills the optimiser's state
                step(item)
            rows[way] = {"mib": (_memory(place, peak=True) - before) / 2**20}
            calls[way] = _round(step, batches, place)
        except Exception as error:  # of any library; the other is measured all the same
            rows[way] = {"error": reason(error)}
    for way, seconds in take_turns(calls, max(1, place.sizes.rounds // 2)).items():
        middle = statistics.median(seconds)
        rows[way] |= {
            "images_per_second": batch / middle,
            "seconds_per_step": middle,
            "least": min(seconds),
            "most": max(seconds),
            "macs_per_second": macs / middle,
            "share_of_limit": macs / middle / limit,
        }
    return {"config": config.to_dict(), "limit": limit, "ways": rows}


def _round(step: Callable[[Any], None], batches: list[Any], place: Place) -> Callable[[], float]:
    """Seconds of a step, the mean of some."""

    def run() -> float:
        place.wait()
        began = time.perf_counter()
        for number in range(place.sizes.steps):
            step(batches[number % len(batches)])
        place.wait()
        return (time.perf_counter() - began) / place.sizes.steps

    return run


class _Nothing(SegmentationDataset):
    """Classes without images: batches are made elsewhere."""

    name = "nothing"
    split = "train"
    classes = tuple(map(str, range(CLASSES)))

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)


def _engine_step(config: RunConfig, place: Place, *, compiled: bool) -> Callable[[Any], None]:
    """The step of ``engine.train``, in the precision that it chooses, with a look now and then."""
    device = "auto" if place.device.type == "cuda" else "cpu"
    runtime = Runtime(runs_dir=str(place.out / "runs"), device=device, compile=compiled)
    AcceleratorState._reset_state(reset_partial_state=True)
    nothing = {"load_dataset": mock.Mock(return_value=_Nothing()), "learnable": lambda *_: []}
    with mock.patch.multiple(trainer, **nothing):
        made = Trainer(config, runtime, build_accelerator(config, runtime))
    made._set_training_mode()

    def step(batch: Any) -> None:
        made._step([batch], [config.batch_size])
        if made.iteration % made.look_every == 0:
            made.history.means()

    return step


def _plain_step(config: RunConfig, place: Place) -> Callable[[Any], None]:
    """As most code trains: float32 with TensorFloat32, maps in torch's usual layout."""
    network = build_network(config, CLASSES).to(place.device).train()
    optimizer, schedule = build_optimizer(network, config)

    def step(batch: Any) -> None:
        image, mask = (t.to(place.device, non_blocking=True) for t in batch)
        with computing("tf32"):
            loss = F.cross_entropy(network(image), mask, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()

    return step


def _random_batch(batch: int, place: Place) -> tuple[Tensor, Tensor]:
    side = place.sizes.crop
    image = torch.randn(batch, 3, side, side)
    mask = torch.randint(CLASSES, (batch, side, side))
    if place.device.type == "cuda":
        return image.pin_memory(), mask.pin_memory()
    return image, mask


def _memory(place: Place, *, peak: bool = False) -> int:
    """Bytes allocated on the GPU, now or at the peak since the last call; 0 without one."""
    if place.device.type != "cuda":
        return 0
    if peak:
        return torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()

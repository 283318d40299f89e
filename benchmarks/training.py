"""One training step, plain against default: ``python -m benchmarks.training``.

Plain is float32 on ordinary (NCHW) maps; the default is what ``engine.train`` does on a processor
with bfloat16 in hardware: autocast on channels_last maps. The network is the one of the
photographs, EMA on MobileNetV2 at output stride 16 with 12 crops of 257×257. The two take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks import results
from emastudy.engine.training.loss import segmentation_loss
from emastudy.networks import build

BATCH, CROP, CLASSES, REPEATS = 12, 257, 7, 5


def main() -> None:
    """Print the table."""
    steps = {
        "float32, NCHW": make_step(torch.contiguous_format, bf16=False),
        "float32, channels_last": make_step(torch.channels_last, bf16=False),
        "bfloat16, channels_last": make_step(torch.channels_last, bf16=True),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(REPEATS + 1):  # the first round warms up and is not counted
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    default = medians["bfloat16, channels_last"]
    sys.stdout.write(
        f"{torch.get_num_threads()} threads, one SGD step, {BATCH} crops of {CROP}×{CROP}\n"
        f"{'':<26}{'ms':>8}{'ratio':>8}\n"
    )
    for name, seconds in medians.items():
        sys.stdout.write(f"{name:<26}{1000 * seconds:>8.0f}{seconds / default:>8.2f}\n")
    setting = {"batch": BATCH, "crop": CROP, "classes": CLASSES}
    results.keep("training", [{"way": n, "seconds": s, **setting} for n, s in medians.items()])


def make_step(layout: torch.memory_format, *, bf16: bool) -> Callable[[], None]:
    """One step of SGD on random crops."""
    torch.manual_seed(0)
    network = build("ema", num_classes=CLASSES, channels=256).to(memory_format=layout)
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.009, momentum=0.9
    )
    image = torch.randn(BATCH, 3, CROP, CROP).to(memory_format=layout)
    mask = torch.randint(CLASSES, (BATCH, CROP, CROP))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image)
        segmentation_loss(logits, mask).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()

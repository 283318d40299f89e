"""One training step, plain against default: ``python -m benchmarks.training``.

Plain is float32 on ordinary (NCHW) maps, as the released loop trains; the default is what
``engine.train`` does on a processor with bfloat16 in hardware: autocast on channels_last maps. The
networks are the photographs' and a ResNet-50 as deep as the paper's maps. The ways take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks import results
from emastudy.engine.training.loss import segmentation_loss
from emastudy.networks import build

CLASSES, REPEATS = 7, 5


class Setting(NamedTuple):
    """A network with EMA, and the batch that it is trained on."""

    backbone: str
    output_stride: int
    channels: int
    batch: int
    crop: int


SETTINGS = (Setting("mobilenet_v2", 16, 256, 12, 257), Setting("resnet50", 8, 512, 4, 193))


def main() -> None:
    """Print a table for each setting."""
    results.keep("training", [row for setting in SETTINGS for row in compare(setting)])


def compare(setting: Setting) -> list[dict[str, Any]]:
    """Print and return one row a way of computing."""
    steps = {
        "float32, NCHW": make_step(setting, torch.contiguous_format, bf16=False),
        "float32, channels_last": make_step(setting, torch.channels_last, bf16=False),
        "bfloat16, channels_last": make_step(setting, torch.channels_last, bf16=True),
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
        f"{setting.backbone}, output stride {setting.output_stride}, {torch.get_num_threads()} "
        f"threads, one SGD step, {setting.batch} crops of {setting.crop}×{setting.crop}\n"
        f"{'':<26}{'ms':>8}{'ratio':>8}\n"
    )
    for name, seconds in medians.items():
        sys.stdout.write(f"{name:<26}{1000 * seconds:>8.0f}{seconds / default:>8.2f}\n")
    about = setting._asdict() | {"classes": CLASSES}
    return [{**about, "way": way, "seconds": seconds} for way, seconds in medians.items()]


def make_step(setting: Setting, layout: torch.memory_format, *, bf16: bool) -> Callable[[], None]:
    """One step of SGD on random crops."""
    torch.manual_seed(0)
    network = build(
        "ema",
        backbone=setting.backbone,
        num_classes=CLASSES,
        output_stride=setting.output_stride,
        channels=setting.channels,
    ).to(memory_format=layout)
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.009, momentum=0.9
    )
    batch, crop = setting.batch, setting.crop
    image = torch.randn(batch, 3, crop, crop).to(memory_format=layout)
    mask = torch.randint(CLASSES, (batch, crop, crop))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image)
        segmentation_loss(logits, mask).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()

"""What a run will cost: hours and memory from counted multiply-adds. Estimates, not measurements.

Floor: study.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network

#: Multiply-adds that a data-centre GPU is assumed to sustain in bfloat16, per second.
SUSTAINED = 25e12
# A backward pass does the forward pass's products twice: for the inputs and for the weights.
_PASSES = 3
# Float32 weights, their gradients and SGD's momentum.
_COPIES = 3
# Crops from which on a CPU would take weeks, pixels.
_LARGE = 400
_SHAPES = ("head", "head_options", "backbone", "backbone_options", "output_stride", "crop_size")


@dataclass(frozen=True)
class Estimate:
    """Cost of training one run.

    Attributes:
        macs: Multiply-adds of all forward and backward passes.
        hours: Wall clock; scoring and waiting for data come on top.
        memory: Bytes per GPU; what the libraries take for themselves comes on top.
    """

    macs: float
    hours: float
    memory: float


def estimate(
    config: RunConfig, *, gpus: int = 1, macs_per_second: float = SUSTAINED, num_classes: int = 21
) -> Estimate:
    """Estimate what training a run costs, without data and without running it.

    Args:
        config: The run.
        gpus: GPUs that share a batch, assumed to lose nothing by it.
        macs_per_second: Multiply-adds that one of them sustains.
        num_classes: Number of logits.

    Raises:
        ValueError: More GPUs than images in a batch, or not a positive number.
    """
    if not 1 <= gpus <= config.batch_size or macs_per_second <= 0:
        raise ValueError(
            f"gpus is {gpus}, macs_per_second {macs_per_second}; expected 1 to batch_size = "
            f"{config.batch_size} GPUs and a positive speed"
        )
    # Recipes share networks: what does not shape one is left out, so that each is counted once.
    network = RunConfig(**{name: getattr(config, name) for name in _SHAPES})
    one = _count(network.canonical_json(), num_classes)
    macs = float(_PASSES * one.macs * config.batch_size * config.iterations)
    activations = one.activation_bytes * -(-config.batch_size // gpus) / 2  # bfloat16
    return Estimate(
        macs=macs,
        hours=macs / macs_per_second / gpus / 3600,
        memory=activations + _COPIES * 4 * one.params,
    )


def estimates_table(
    recipes: Mapping[str, Callable[..., RunConfig]], gpus: tuple[int, ...] = (1, 4)
) -> str:
    """The estimates as a Markdown table, for the recipes that want a GPU, by their crops.

    Args:
        recipes: Name → recipe, e.g. ``protocols.PROTOCOLS``.
        gpus: Numbers of GPUs.
    """
    columns = [f"hours, GiB on {n} GPU{'s' * (n > 1)}" for n in gpus]
    lines = ["| recipe | 10¹⁵ multiply-adds | " + " | ".join(columns) + " |"]
    lines.append("|---" * (2 + len(gpus)) + "|")
    for name, recipe in recipes.items():
        config = recipe()
        if config.crop_size >= _LARGE:
            found = [estimate(config, gpus=n) for n in gpus]
            cells = [f"{e.hours:.1f}, {e.memory / 2**30:.1f}" for e in found]
            lines.append(f"| `{name}` | {found[0].macs / 1e15:.3g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@functools.cache
def _count(changed: str, num_classes: int) -> cost.Cost:
    config = RunConfig.from_dict(json.loads(changed))
    with torch.device("meta"):
        network = build_network(config, num_classes)
    return cost.measure(network, (config.crop_size, config.crop_size))

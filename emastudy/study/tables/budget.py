"""Estimates of what a run will cost: hours and memory from counted multiply-adds."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network
from emastudy.errors import InputError
from emastudy.study.recipes import PAPER_CLASSES, RECIPES
from emastudy.study.runs import benchmark_results
from emastudy.study.tables.test_sets import PAPER_RUNS

# Multiply-adds that a data-centre GPU is assumed to sustain in bfloat16, per second.
_ASSUMED_MACS = 25e12
# What stands for the paper's networks, best first: names of results in throughput.json.
_MEASURED = ("resnet101, batch 16", "resnet101, batch 12", "resnet50, batch 16")
# A backward pass does the forward pass's products twice: for the inputs and for the weights.
_PASSES = 3
# Float32 weights, their gradients and SGD's momentum.
_COPIES = 3
# What of a config shapes its network.
_SHAPES = ("head", "head_options", "backbone", "backbone_options", "output_stride", "crop_size")


@dataclass(frozen=True)
class Speed:
    """What one GPU does."""

    macs_per_second: float  #: Multiply-adds that it sustains in training.
    words: str  #: The same for readers, with where it is from.


def sustained(results: Path | None = None) -> Speed:
    """What a GPU sustains in training EMANet: measured where it has been, or else assumed.

    Args:
        results: File that ``python -m benchmarks.gpu`` has written; by default the checkout's,
            ``benchmarks/results/throughput.json``. It need not exist.

    Raises:
        InputError: The file holds something else.
    """
    results = results or benchmark_results("throughput")
    try:
        content = json.loads(results.read_text(encoding="utf-8"))
        for name in _MEASURED:
            if (found := content["results"].get(name)) and "default" in found["ways"]:
                macs = float(found["ways"]["default"]["macs_per_second"])
                card = content["made"][found["made"]]["machine"]["accelerator"]
                what = f"training EMANet, {name}, on one {card}"
                return Speed(macs, f"{_rate(macs)}, measured by {what}")
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{results} does not hold what python -m benchmarks.gpu writes ({error!r}); "
            "move it away"
        ) from error
    words = f"{_rate(_ASSUMED_MACS)}, which is an assumption: none has been measured yet"
    return Speed(_ASSUMED_MACS, words)


def _rate(macs: float) -> str:
    return f"{macs / 1e12:.3g}·10¹² multiply-adds a second in bfloat16"


@dataclass(frozen=True)
class Estimate:
    """Cost of training one run."""

    macs: float  #: Multiply-adds of all forward and backward passes, on full crops.
    hours: float  #: Wall clock; scoring and waiting for data come on top.
    #: Bytes per GPU: what the backward pass keeps, in bfloat16, and weights, gradients and momentum
    #: in float32; what the libraries take for themselves comes on top.
    memory: float


def estimate(
    config: RunConfig, *, num_classes: int = 21, gpus: int = 1, macs_per_second: float | None = None
) -> Estimate:
    """Estimate what training a run costs, without data and without running it.

    Args:
        gpus: GPUs that share a batch, assumed to lose nothing by it.
        macs_per_second: Multiply-adds that one of them sustains; None = see :func:`sustained`.

    Raises:
        InputError: More GPUs than images in a batch, or not a positive number.
    """
    if macs_per_second is None:
        macs_per_second = sustained().macs_per_second
    if not 1 <= gpus <= config.batch_size or macs_per_second <= 0:
        raise InputError(
            f"gpus is {gpus}, macs_per_second {macs_per_second}; expected 1 to batch_size = "
            f"{config.batch_size} GPUs and a positive speed"
        )
    # Recipes share networks: what does not shape one is left out, so that each is counted once.
    network = RunConfig(**{name: getattr(config, name) for name in _SHAPES})
    one = _forward_cost(network.canonical_json(), num_classes)
    macs = float(_PASSES * one.macs * config.batch_size * config.iterations)
    activations = one.activation_bytes * -(-config.batch_size // gpus) / 2  # bfloat16
    memory = activations + _COPIES * 4 * one.params
    return Estimate(macs, hours=macs / macs_per_second / gpus / 3600, memory=memory)


@functools.cache
def _forward_cost(network: str, num_classes: int) -> cost.Cost:
    config = RunConfig.from_dict(json.loads(network))
    with torch.device("meta"):
        built = build_network(config, num_classes)
    return cost.measure(built, (config.crop_size, config.crop_size))


def plan() -> pd.DataFrame:
    """What it takes to run the paper's Tables 2-4 on one GPU.

    Returns:
        Index ("table", "recipe"). "dataset", "batch", "iterations"; "peta_macs" (10¹⁵
        multiply-adds of the whole run), "gpu_hours" and "memory_gib" as :func:`estimate` has
        them; "command".
    """
    rows = {}
    for table, recipes in PAPER_RUNS.items():
        for recipe in recipes:
            config = RECIPES[recipe]()
            needed = estimate(config, num_classes=PAPER_CLASSES[recipe])
            weights = " --weights-path FILE" if config.pretrained else ""
            rows[table, recipe] = {
                "dataset": config.dataset,
                "batch": config.batch_size,
                "iterations": config.iterations,
                "peta_macs": needed.macs / 1e15,
                "gpu_hours": needed.hours,
                "memory_gib": needed.memory / 2**30,
                "command": f"emastudy train {recipe} --data-root FOLDER{weights}",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["table", "recipe"])

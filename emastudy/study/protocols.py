"""The study's recipes: functions that return one complete ``RunConfig``.

Floor: study (imports engine).

Every recipe takes ``head``, ``seed`` and ``scale`` (1.0 = as described, smaller = a quick look:
iterations and scored scenes shrink with it) and further options of the head.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from emastudy.engine import RunConfig

ANIMALS = ("background", "cat", "cow", "dog", "horse", "sheep", "person")


def scenes(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Scenes, 8 classes at 64×64, a small ResNet from scratch at stride 4, 300 iterations.

    Needs no data. The head sees 64 channels on a 16×16 map, so EMA's bases default to K = 16
    instead of the paper's 64: the same 16 pixels per basis as 64 bases on a 32×32 map.

    Cost: about half a minute on one CPU core.
    """
    if head == "ema":
        head_options = {"num_bases": 16, **head_options}
    return RunConfig(
        dataset="scenes",
        head=head,
        head_options={"channels": 64, **head_options},
        backbone="small_resnet",
        eval_images=max(4, round(200 * scale)),
        iterations=max(2, round(300 * scale)),
        learning_rate=0.05,
        seed=seed,
    )


def animals(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Photographs of VOC animals: 7 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on trainaug at output stride 16, scores val at stride 8, as the paper does; the other
    14 VOC classes count as ignored, so numbers are not comparable with 21-class tables. Images
    are expected at a longest side of about 320 pixels. Batch norm's running statistics move 100
    times faster than the paper's 3e-4: 500 iterations are a sixtieth of its 30,000.

    Cost: about 12 minutes on one CPU core with bfloat16.
    """
    return RunConfig(
        dataset="voc2012",
        dataset_options={"classes": list(ANIMALS)},
        train_split="trainaug",
        head=head,
        head_options={"channels": 256, **head_options},
        backbone="mobilenet_v2",
        pretrained=True,
        output_stride=16,
        eval_output_stride=8,
        bn_momentum=0.03,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop_size=257,
        iterations=max(2, round(500 * scale)),
        seed=seed,
    )


def camvid(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Road scenes of CamVid: 11 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on train (367 frames of 480×360) at output stride 16, scores val at stride 8; all else
    as in :func:`animals`. The test split, other sequences than train's, is scored from the
    checkpoint: ``emastudy evaluate runs/ID --split test``.

    Cost: about 12 minutes on one CPU core with bfloat16.
    """
    return RunConfig(
        dataset="camvid",
        head=head,
        head_options={"channels": 256, **head_options},
        backbone="mobilenet_v2",
        pretrained=True,
        output_stride=16,
        eval_output_stride=8,
        bn_momentum=0.03,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop_size=257,
        iterations=max(2, round(500 * scale)),
        seed=seed,
    )


def animals_frozen(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """As ``animals``, but only the head learns: the backbone keeps its ImageNet weights.

    Whole images, padded to 321 pixels a side, and their mirror images; their features are computed
    once for all runs (see ``engine.feature_cache``), 2 GB in about five minutes on one CPU core.
    300 iterations at the learning rate of ``animals``: by then FCN's loss has levelled off.

    Cost: about a minute on one CPU core with bfloat16.
    """
    return replace(
        animals(head, seed=seed, **head_options),
        frozen_backbone=True,
        scales=(1.0,),
        crop_size=321,
        iterations=max(2, round(300 * scale)),
    )


#: The recipes by the name that notebooks and commands use.
PROTOCOLS: dict[str, Callable[..., RunConfig]] = {
    "scenes": scenes,
    "animals": animals,
    "camvid": camvid,
    "animals_frozen": animals_frozen,
}


def grid(
    protocol: str, head: str = "ema", *, seeds: int, scale: float = 1.0, **axes: Iterable[Any]
) -> list[RunConfig]:
    """Every combination of a recipe's options, with every seed.

    Args:
        protocol: Name of a recipe.
        head: Name of the head.
        seeds: How many seeds, counted from 0.
        scale: Of the recipe.
        axes: Option of the head → the values it takes.

    Raises:
        ValueError: Unknown recipe.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no recipe {protocol!r}; there are {', '.join(PROTOCOLS)}")
    return [
        PROTOCOLS[protocol](head, seed=seed, scale=scale, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
        for seed in range(seeds)
    ]

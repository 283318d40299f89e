"""Pictures of scenes: what the generative model draws, and what its knobs do."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from emastudy import datasets
from emastudy.datasets import SegmentationDataset
from emastudy.study.figures.drawing import colorize, gallery


def samples(seed: int, count: int = 6) -> None:
    """Scenes as a network sees them, without noise, and their truth."""
    world = datasets.load("scenes", "train", seed=seed)
    clean = datasets.load("scenes", "train", seed=seed, noise=0.0)
    _, axes = gallery(3, count)
    for index, (top, middle, bottom) in enumerate(axes.T):
        _show(top, world, index, "" if index else "as the network sees it")
        _show(middle, clean, index, "" if index else "without noise")
        bottom.imshow(colorize(world[index][1].numpy(), world.palette))
    axes[2, 0].set_title("truth", fontsize=8)


def knobs(seed: int, values: Mapping[str, Sequence[int | float]]) -> None:
    """One scene drawn again with other values of the generative model's options.

    Args:
        seed: Which stream of scenes; its first is drawn.
        values: Option → its values, one row of pictures each. Noise is off but in its own row.
    """
    _, axes = gallery(len(values), max(map(len, values.values())))
    for row, (knob, settings) in zip(axes, values.items(), strict=True):
        for ax, value in zip(row, settings, strict=False):
            options: dict[str, Any] = {"noise": 0.0, knob: value}
            world = datasets.load("scenes", "train", seed=seed, **options)
            _show(ax, world, 0, f"{knob} = {value}")


def pixel_colors(seed: int, images: int = 16) -> None:
    """Red and green of some pixels (dots) and of each class' mean in an image (crosses)."""
    world = datasets.load("scenes", "train", seed=seed)
    generator = np.random.default_rng(0)
    _, ax = plt.subplots(figsize=(6.4, 4.4))
    for number, color in enumerate(np.array(world.palette) / 255):
        for index in range(images):
            image, mask = world[index]
            values = image.numpy()[:, mask.numpy() == number].T / 255
            if len(values):
                few = generator.choice(values, min(12, len(values)), replace=False)
                ax.plot(few[:, 0], few[:, 1], ".", color=color, alpha=0.25, ms=3)
                ax.plot(*values.mean(axis=0)[:2], "x", color=color, ms=8, mew=2)
    ax.set(xlabel="red, full scale = 1", ylabel="green, full scale = 1")


def _show(ax: Axes, world: SegmentationDataset, index: int, title: str) -> None:
    ax.imshow(world[index][0].permute(1, 2, 0).numpy())
    ax.set_title(title, fontsize=8)

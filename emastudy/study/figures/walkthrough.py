"""EM attention on one photograph, drawn step by step."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emastudy.engine.diagnostics import effective_rank
from emastudy.engine.walkthrough import Walkthrough, change
from emastudy.study.figures import drawing


def overview(walk: Walkthrough, most: int = 5, *, single: bool = False) -> Figure:
    """The whole story in one picture: photograph, segmentation, maps over the iterations.

    Args:
        most: Number of columns: of groups of bases, the largest first, or of bases.
        single: Draw bases, of every group in turn, and the largest share that each takes of a
            pixel. Otherwise groups.
    """
    if single:
        chosen = walk.examples(most)
        titles = [f"basis {k}\n{_alike(walk, k)}" for k in chosen]
        maps = walk.responsibilities[:, chosen]
    else:
        maps = walk.maps[:, :most]
        titles = [_bases(walk, group) for group in range(maps.shape[1])]
    steps, columns = maps.shape[:2]
    height, width = walk.image.shape[:2]
    cell = 9 / (steps / 2 + columns)
    beside = 0.5 + single * (0.2 + 0.2 * steps)
    figure = plt.figure(figsize=(9, steps * cell * height / width + beside), facecolor="white")
    grid = figure.add_gridspec(1, 2, width_ratios=(steps / 2, columns))
    (photograph,), (segmented,) = grid[0].subgridspec(2, 1).subplots(squeeze=False)
    photograph.imshow(walk.image)
    photograph.set_title("a photograph", fontsize=9)
    segmented.imshow(_segmented(walk))
    segmented.set_title(f"segmented: {_classes(walk)}", fontsize=9)
    cells = grid[1].subgridspec(steps, columns).subplots(squeeze=False)
    for step, row in enumerate(cells):
        row[0].set_ylabel(f"iteration {step + 1}", fontsize=9)
        for column, ax in enumerate(row):
            _share(ax, walk, maps[step, column])
            if step == 0:
                ax.set_title(titles[column], fontsize=9)
            if single:
                ax.set_xlabel(f"at most {maps[step, column].max():.0%}", fontsize=9)
    for ax in figure.axes:
        _bare(ax)
    return figure


def one_iteration(walk: Walkthrough) -> Figure:
    """The first E step and M step, for the group of bases that takes the most pixels."""
    figure, axes = plt.subplots(1, 4, figsize=(9, 9 / 4 * np.divide(*walk.image.shape[:2]) + 0.5))
    seen, likeness, share, mean = axes
    seen.imshow(walk.image)
    seen.set_title("the pixels, $x_n$", fontsize=9)
    drawing.heat(likeness, walk.image, walk.similarity[0, 0])
    likeness.set_title(r"likeness to the basis, $x_n^\top \mu_k$", fontsize=9)
    _share(share, walk, walk.maps[0, 0])
    share.set_title("E step: its share $z_{nk}$", fontsize=9)
    weights = walk.maps[0, 0][..., None] / walk.maps[0, 0].max()
    mean.imshow(weights * walk.small_image + (1 - weights))
    side, color = walk.maps.shape[-1] / 5, walk.mean_colors[0, 0]
    mean.add_patch(Rectangle((0, 0), side, side, fc=color, ec="white"))
    mean.set_title("M step: mean of what it has", fontsize=9)
    for ax in axes:
        _bare(ax)
    return figure


def iterations(walk: Walkthrough, most: int = 5) -> Figure:
    """A row a group, a column an iteration; the square is the mean colour under the map."""
    steps, groups = len(walk.maps), min(most, len(walk.sizes))
    height, width = walk.image.shape[:2]
    size = (2.2 * steps, 2.2 * groups * height / width + 0.4)
    figure, axes = plt.subplots(groups, steps, figsize=size, squeeze=False)
    for group, row in enumerate(axes):
        row[0].set_ylabel(_bases(walk, group), fontsize=9)
        for step, ax in enumerate(row):
            _share(ax, walk, walk.maps[step, group])
            color = walk.mean_colors[step, group]
            ax.add_patch(Rectangle((0, 0), width / 8, width / 8, fc=color, ec="white"))
            if group == 0:
                ax.set_title(f"iteration {step + 1}", fontsize=9)
            _bare(ax)
    return figure


def low_rank(walks: Mapping[str, Walkthrough]) -> Figure:
    """The features before and after, their three main directions as red, green and blue.

    A row a walk, each scaled for itself, in the directions of the first, whose features the others
    are compared to.
    """
    first = next(iter(walks.values()))
    size = 2.4 if len(walks) > 1 else 3
    height = len(walks) * (size * np.divide(*first.image.shape[:2]) + 0.25) + 0.2
    figure, axes = plt.subplots(len(walks), 3, figsize=(3 * size, height), squeeze=False)
    for ax, (name, walk) in zip(axes[:, 0], walks.items(), strict=True):
        ax.imshow(walk.image)
        ax.set_title(name, fontsize=9)
    mean = first.features.mean(axis=0)
    _, _, directions = np.linalg.svd(first.features - mean, full_matrices=False)
    for column, part, label in (
        (axes[:, 1], "features", "features $X$"),
        (axes[:, 2], "estimate", r"rebuilt, $\tilde X$"),
    ):
        xs = [getattr(walk, part) for walk in walks.values()]
        projected = np.stack([(x - mean) @ directions[:3].T for x in xs])
        low, high = np.percentile(projected, (1, 99), axis=1, keepdims=True)
        colors = ((projected - low) / (high - low)).clip(0, 1)
        for ax, walk, x, shown in zip(column, walks.values(), xs, colors, strict=True):
            ax.imshow(shown.reshape(*walk.maps.shape[-2:], 3))
            rank = f"effective rank {effective_rank(torch.from_numpy(x)).item():.1f}"
            moved = f"{rank}, moved by {change(xs[0], x):.0%}"
            ax.set_title(f"{label}: {rank}" if walk is first else moved, fontsize=9)
    for ax in axes.flat:
        _bare(ax)
    return figure


def attention_cost() -> Figure:
    """Multiply-adds of attention, 2N²C, and of EM attention, (2T+1)NKC, against the map's side.

    C, K and T are those of the paper's EMANet (512).
    """
    channels, bases, iterations = 512, 64, 3
    side = np.arange(17, 258, 8)
    pixels = side**2
    figure, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(side, 2 * pixels**2 * channels / 1e9, label="every pixel looks at every pixel, $2N^2C$")
    shared = (2 * iterations + 1) * pixels * bases * channels
    ax.plot(side, shared / 1e9, label="pixels look at bases, $(2T+1)NKC$")
    ax.set(yscale="log", ylabel="10⁹ multiply-adds", xlabel="side of the feature map, pixels")
    ax.set_title(f"C = {channels}, K = {bases}, T = {iterations}")
    ax.legend()
    return figure


def _share(ax: Axes, walk: Walkthrough, taken: np.ndarray) -> None:
    """The share of every pixel that is taken, over the greyed photograph."""
    drawing.heat(ax, walk.image, taken)
    ax.axis("on")


def _segmented(walk: Walkthrough) -> np.ndarray:
    """The photograph with a colour laid over each class, and the background faded."""
    picture = 0.3 * walk.image + 0.7
    for number, index in enumerate(sorted(set(np.unique(walk.mask)) - {0})):
        here = walk.mask == index
        picture[here] = 0.6 * walk.image[here] + 0.4 * np.array(to_rgb(f"C{number}"))
    return picture


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)


def _bases(walk: Walkthrough, group: int) -> str:
    size = walk.sizes[group]
    return f"{size} bases" if size > 1 else "1 basis"


def _alike(walk: Walkthrough, basis: int) -> str:
    size = walk.sizes[walk.group[basis]]
    return f"1 of {size} alike" if size > 1 else "like no other"


def _classes(walk: Walkthrough) -> str:
    names = [walk.classes[index] for index in np.unique(walk.mask)]
    return ", ".join(name for name in names if name != "background") or "background"

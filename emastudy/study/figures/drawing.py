"""Images, masks and responsibilities, drawn: functions of arrays."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Patch

from emastudy.em.mixtures import MixtureParameters

_WRONG = (213, 94, 0)  # of a wrong pixel: the style's second colour, C1


def colorize(mask: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Class indices (H, W) to RGB (H, W, 3) uint8; ignored pixels (255) are light grey."""
    table = np.full((256, 3), 220, dtype=np.uint8)
    table[: len(colors)] = colors
    rgb: np.ndarray = table[mask]
    return rgb


def overlay(
    image: np.ndarray, mask: np.ndarray, colors: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Class colours laid over an image, half and half."""
    return (0.5 * image + 0.5 * colorize(mask, colors)).astype(np.uint8)


def heat(ax: Axes, image: np.ndarray, weights: np.ndarray, title: str = "") -> None:
    """A map of weights (h, w) over a greyed image (H, W, 3), enlarged to its size.

    Weights are drawn from 0 to the map's own maximum, which the title should say.
    """
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    ax.imshow(image.mean(axis=2), cmap="gray", extent=extent)
    ax.imshow(weights, cmap="inferno", alpha=0.6, vmin=0, extent=extent, interpolation="bilinear")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def gaussians(
    ax: Axes, x: np.ndarray, responsibilities: np.ndarray, parameters: MixtureParameters
) -> np.ndarray:
    """Points of the plane and the Gaussians that share them: one and two standard deviations.

    Args:
        x: (N, 2).
        responsibilities: (N, K), mixes the Gaussians' colours into those of the points.
        parameters: Of K Gaussians with full covariances.

    Returns:
        The points' colours, (N, 3).
    """
    names = [f"C{k}" for k in range(len(parameters.bases))]
    colors: np.ndarray = (responsibilities @ np.array([to_rgb(c) for c in names])).clip(0, 1)
    ax.scatter(x[:, 0], x[:, 1], c=colors, s=9, linewidths=0)
    for mean, spread, color in zip(parameters.bases, parameters.spread, names, strict=True):
        values, vectors = np.linalg.eigh(spread.numpy())
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        for radius in (1, 2):
            wide, high = 2 * radius * np.sqrt(values[::-1])
            ax.add_patch(Ellipse(mean.numpy(), wide, high, angle=angle, fill=False, color=color))
        ax.plot(*mean, "k+")
    return colors


def gallery(
    rows: int, columns: int, *, size: float = 1.6, aspect: float = 1
) -> tuple[Figure, np.ndarray]:
    """A grid of axes without ticks, for pictures. Returns (figure, (rows, columns) axes).

    Args:
        size: Width of a picture with its margin, inches.
        aspect: Height of a picture over its width.
    """
    shape = size * columns, (size * aspect + 0.25 * (aspect < 1)) * rows
    figure, axes = plt.subplots(rows, columns, figsize=shape, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes


def animate(
    figure: Figure, draw: Callable[[int], None], frames: int, *, per_second: int = 3, dpi: int = 80
) -> bytes:
    """An animated GIF, for ``IPython.display.Image``: plays without scripts, also from a file.

    ``draw`` draws frame number 0, 1, … and clears what the last one left.
    """
    order = [*range(frames), frames - 1, frames - 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        FuncAnimation(figure, draw, frames=order).save(path, PillowWriter(fps=per_second), dpi=dpi)
        plt.close(figure)
        return path.read_bytes()


def error_map(mask: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Where a prediction is wrong: RGB (H, W, 3), wrong orange, right white, ignored (255) grey."""
    picture = np.full((*mask.shape, 3), 255, dtype=np.uint8)
    picture[mask != predicted] = _WRONG
    picture[mask == 255] = 200
    return picture


def prediction_rows(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    guesses: Mapping[str, Sequence[np.ndarray]],
    *,
    classes: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    labels: Sequence[str],
    title: str,
) -> Figure:
    """A row an image: photograph, truth, and for each method its prediction and its errors.

    Args:
        images: (H, W, 3) uint8.
        masks: (H, W) class indices, 255 = ignored.
        guesses: Method → predicted classes, one (H, W) an image.
    """
    height, width = images[0].shape[:2]
    columns = 2 + 2 * len(guesses)
    size = 10 / columns
    rows_tall = len(images) * (size * height / width + 0.04)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(10.3, rows_tall + 1.1), squeeze=False
    )
    for number, (row, image, mask) in enumerate(zip(axes, images, masks, strict=True)):
        pictures = [("photograph", image), ("truth", colorize(mask, colors))]
        for method, predicted in guesses.items():
            pictures.append((method, colorize(predicted[number], colors)))
            pictures.append((f"errors of {method}", error_map(mask, predicted[number])))
        for ax, (name, picture) in zip(row, pictures, strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if number == 0:
                ax.set_title(name, fontsize=9)
        row[0].set_ylabel(labels[number], fontsize=8)
    class_legend(figure, [*classes, "wrong"], [*colors, _WRONG])
    figure.suptitle(title)
    return figure


def class_legend(
    figure: Figure, classes: Sequence[str], colors: Sequence[tuple[int, int, int]]
) -> None:
    """Below the pictures, the colour of every class."""
    handles = [
        Patch(color=f"#{red:02x}{green:02x}{blue:02x}", label=name)
        for name, (red, green, blue) in zip(classes, colors, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)

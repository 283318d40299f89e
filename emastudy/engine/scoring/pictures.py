"""Predictions as pictures."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image
from torch import Tensor

from emastudy import datasets
from emastudy.engine.checkpoints import load_network
from emastudy.engine.runtime import Machine
from emastudy.engine.scoring.predict import predict
from emastudy.errors import InputError, require
from emastudy.files import check_writable, written_whole


def class_picture(
    classes: Integer[np.ndarray, "h w"], colors: Iterable[tuple[int, int, int]]
) -> Image.Image:
    """A palette picture whose values are the class indices.

    Args:
        classes: Indices, 0-255.
        colors: RGB (0-255) per class.
    """
    picture = Image.fromarray(classes.astype(np.uint8))
    picture.putpalette([value for color in colors for value in color])
    return picture


def write_prediction(
    folder: Path,
    name: str,
    image: Integer[Tensor, "3 h w"],
    classes: Integer[Tensor, "h w"],
    colors: Iterable[tuple[int, int, int]],
) -> None:
    """Write NAME_mask.png, see :func:`class_picture`, and NAME_overlay.png, both half and half.

    Args:
        folder: Where to write.
        name: Beginning of the files' names.
        image: (3, H, W) uint8 RGB.
        classes: (H, W) class indices.
        colors: RGB (0-255) per class.
    """
    mask = class_picture(classes.numpy(), colors)
    photograph = Image.fromarray(image.permute(1, 2, 0).numpy())
    overlay = Image.blend(photograph, mask.convert("RGB"), 0.5)
    for kind, picture in (("mask", mask), ("overlay", overlay)):
        with written_whole(folder / f"{name}_{kind}.png") as path:
            picture.save(path)


def predict_files(
    paths: Sequence[Path], checkpoint: str | Path, folder: Path, machine: Machine
) -> Iterator[tuple[Path, dict[str, float]]]:
    """Segment image files and write what is predicted, see :func:`write_prediction`.

    Args:
        paths: Image files.
        checkpoint: As for ``load_network``.
        folder: Where to write.
        machine: What computes.

    Yields:
        Each path, and the shares of the image's pixels by class, largest first.

    Raises:
        InputError: No path is given, or two files have the same name but for folder and ending.
        WriteError: The folder cannot be written.
    """
    require(len(paths) > 0, "images", [str(path) for path in paths], "at least one file")
    (name, count), *_ = Counter(path.stem for path in paths).most_common(1)
    if count > 1:
        raise InputError(
            f"{count} images are called {name}: their predictions would overwrite each other; "
            "predict them one at a time, into folders of their own"
        )
    network, manifest = load_network(checkpoint)
    check_writable(folder)
    manifest.config.check_sources(manifest.config.dataset)
    kind = datasets.find(manifest.config.dataset)
    colors = manifest.colors or kind.palette(manifest.classes)
    network.to(machine.start())
    for path in paths:
        image = datasets.read_image(path)
        classes = predict(network, image, kind, dtype=machine.autocast_dtype(manifest.config))
        write_prediction(folder, path.stem, image, classes, colors)
        counts = Counter(classes.flatten().tolist()).most_common()
        yield path, {manifest.classes[c]: pixels / classes.numel() for c, pixels in counts}

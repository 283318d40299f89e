"""Predictions as files: pictures, and probabilities where they are asked for."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Integer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm.auto import tqdm

from emastudy import datasets
from emastudy.engine.checkpoints import load_network
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import Machine
from emastudy.engine.scoring.photographs import Photograph, find_photographs
from emastudy.engine.scoring.predict import Views, predict, predict_probabilities
from emastudy.errors import CheckpointError, EmastudyError, InputError, MissingFileError, require
from emastudy.files import check_writable, written_whole
from emastudy.networks import SHIPPED, SegmentationNetwork, from_pretrained

# Written into every picture, by which a later run knows that it may overwrite it.
_SOFTWARE = "emastudy predict"


def class_picture(
    classes: Integer[np.ndarray, "h w"], colors: Iterable[tuple[int, int, int]]
) -> Image.Image:
    """A palette picture whose values are the class indices."""
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
    """Write NAME_mask.png, see :func:`class_picture`, and NAME_overlay.png, both half and half."""
    mask = class_picture(classes.numpy(), colors)
    photograph = Image.fromarray(image.permute(1, 2, 0).numpy())
    overlay = Image.blend(photograph, mask.convert("RGB"), 0.5)
    origin = PngInfo()
    origin.add_text("Software", _SOFTWARE)
    for kind, picture in (("mask", mask), ("overlay", overlay)):
        with written_whole(folder / f"{name}_{kind}.png") as path:
            picture.save(path, pnginfo=origin)


def write_probabilities(
    folder: Path, name: str, probabilities: Float[Tensor, "c h w"], classes: Sequence[str]
) -> None:
    """Write NAME_probabilities.npz: ``probabilities`` (C, H, W), float16, and ``classes`` (C,).

    One file that NumPy reads without unpickling and that says which class is which; a picture has
    room for one class, or for three. Float16 halves the size and errs by less than 0.0003, so that
    classes which the mask tells apart may be equal here.
    """
    half = probabilities.numpy().astype(np.float16)
    with written_whole(folder / f"{name}_probabilities.npz") as path:
        np.savez_compressed(path, probabilities=half, classes=list(classes))


def open_trained(name: str | Path) -> tuple[SegmentationNetwork, RunConfig]:
    """A trained network and its run's config (default settings for a saved network).

    Args:
        name: The folder of a run, of a checkpoint or of ``save_pretrained``, or a network that
            comes with the package.

    Raises:
        CheckpointError: There is none; see ``load_network``.
        InputError: See ``networks.from_pretrained``; or the run's own dataset was changed.
    """
    if str(name) in SHIPPED or (Path(name) / "config.json").is_file():
        network = from_pretrained(name)
        palette = datasets.SegmentationDataset.default_palette(network.classes)
        network.colors = network.colors or tuple(palette)
        return network, RunConfig()
    if not Path(name).exists():
        raise CheckpointError(
            f"there is no checkpoint {str(name)!r}; give a folder runs/ID or "
            "runs/ID/checkpoint-NNNNNN that `emastudy train` has written, one of save_pretrained, "
            f"or a network that comes with the package: {', '.join(SHIPPED)}"
        )
    network, manifest = load_network(name)
    manifest.config.check_sources(manifest.config.dataset)
    return network, manifest.config


@dataclass(frozen=True)
class PredictedFile:
    """The outcome for one image file."""

    path: Path
    #: Shares of its pixels by class, largest first; empty where it failed.
    shares: dict[str, float] = field(default_factory=dict)
    error: EmastudyError | None = None  #: Why it failed, or None.


def predict_files(
    images: Sequence[str | Path],
    checkpoint: str | Path,
    folder: Path,
    machine: Machine,
    *,
    window: int = 0,
    save_probabilities: bool = False,
) -> Iterator[PredictedFile]:
    """Segment image files and write what is predicted, see :func:`write_prediction`.

    Masks and overlays have the size of the photograph as a viewer shows it, upright. An image that
    cannot be read, is too small for the network or does not fit into memory stops no other one.

    Args:
        images: Files, folders and patterns, see ``photographs.find_photographs``.
        checkpoint: See :func:`open_trained`.
        folder: Where to write; images of a folder keep their folders inside it.
        window: As in :class:`~emastudy.engine.scoring.predict.Views`, for images too large to be
            seen whole.
        save_probabilities: Also :func:`write_probabilities`.

    Yields:
        Each file's outcome, with a bar on the terminal.

    Raises:
        InputError: No image is given, a prediction would overwrite one, or the window is too small
            for the network; nothing has been computed.
        MissingFileError: None of the files exists.
        CheckpointError: See :func:`open_trained`.
        WriteError: The folder cannot be written.
    """
    views = Views(window=window)
    photographs = find_photographs(images, folder)
    kinds = ("mask.png", "overlay.png", *["probabilities.npz"] * save_probabilities)
    _keep_what_is_there(photographs, folder, kinds)
    network, config = open_trained(checkpoint)
    check_writable(folder)
    network.to(machine.start())
    smallest = network.backbone.native_stride
    if window:
        piece = torch.empty(1, 3, window, window, device="meta")
        large_enough = datasets.pad_to_grid(piece, network.output_stride).shape[-1] >= smallest
        require(large_enough, "window", window, f"at least {smallest}, the backbone's stride, or 0")
    dtype = machine.autocast_dtype(config)

    def segment(photograph: Photograph) -> dict[str, float]:
        image = datasets.read_image(photograph.path)
        if save_probabilities:
            p = predict_probabilities(network, image, network, views=views, dtype=dtype)
            classes = p.argmax(dim=0)
            write_probabilities(folder, photograph.name, p, network.classes)
        else:
            classes = predict(network, image, network, views=views, dtype=dtype)
        write_prediction(folder, photograph.name, image, classes, network.colors)
        shares = dict(zip(network.classes, classes.flatten().bincount().tolist(), strict=False))
        there = sorted((c for c in shares if shares[c]), key=shares.__getitem__, reverse=True)
        return {c: shares[c] / classes.numel() for c in there}

    for photograph in tqdm(photographs, desc="predict", unit="image", disable=None):
        try:
            with _translated(photograph.path, folder, window or 2 * config.crop_size or 512):
                outcome = PredictedFile(photograph.path, segment(photograph))
        except (InputError, MissingFileError) as error:
            outcome = PredictedFile(photograph.path, error=error)
        yield outcome


def _keep_what_is_there(
    photographs: Sequence[Photograph], folder: Path, kinds: Sequence[str]
) -> None:
    """Refuse to write a prediction over a photograph, or over anything but a prediction."""
    given = {photograph.path.resolve() for photograph in photographs}
    for photograph in photographs:
        for kind in kinds:
            target = folder / f"{photograph.name}_{kind}"
            if target.resolve() in given:
                what = "is to be segmented too: give no predictions, or choose"
            elif _is_foreign(target):
                what = "emastudy predict has not written: choose"
            else:
                continue
            raise InputError(
                f"the prediction for {photograph.path} would overwrite {target}, which {what} "
                "another output folder"
            )


def _is_foreign(path: Path) -> bool:
    """Whether there is a file that ``emastudy predict`` has not written."""
    if not path.exists():
        return False
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return {*arrays} != {"probabilities", "classes"}
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") != _SOFTWARE)
    except (OSError, ValueError, AttributeError, TypeError, BadZipFile):
        return True


@contextmanager
def _translated(path: Path, folder: Path, window: int) -> Iterator[None]:
    """Say which image it is, and what to do where memory does not suffice or a disk is full."""
    try:
        yield
    except EmastudyError as error:
        if isinstance(error, InputError) and str(path) not in str(error):
            raise InputError(f"{path}: {error}") from error
        raise
    except OSError as error:
        check_writable(folder)  # a full disk concerns all
        raise InputError(f"{path}: its prediction cannot be written ({error})") from error
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one of these
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not lacking and "can't allocate memory" not in str(error):
            raise
        raise InputError(
            f"{path} does not fit into memory; have it segmented piece by piece, with a window "
            f"(--window) of {max(33, window // 2)} pixels or less"
        ) from error

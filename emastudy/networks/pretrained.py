"""Trained networks as folders: ``config.json``, ``model.safetensors`` and a model card.

The layout is that of the Hugging Face Hub, so that ``owner/name`` of a network put there works as
well as a folder. One small network comes with the package, see ``SHIPPED``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from emastudy import own
from emastudy.errors import DownloadError, InputError, MissingFileError, why_not_fetched
from emastudy.files import write_text, written_whole
from emastudy.networks.build import IMAGENET_MEAN, IMAGENET_STD, SegmentationNetwork, build

#: Name → folder of the networks that come with the package.
SHIPPED = {path.name: path for path in sorted((Path(__file__).parent / "shipped").glob("*/"))}

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


def from_pretrained(name: str | Path) -> SegmentationNetwork:
    """A trained network, in float32 and evaluation mode.

    Its ``classes`` and ``colors`` are those that it was trained for, and its ``mean`` and ``std``
    what photographs are normalised with, as ``engine.predict`` does.

    Args:
        name: "animals-ema", which comes with the package; a folder of :func:`save_pretrained`; or
            ``owner/name`` on the Hugging Face Hub, downloaded once and kept in its cache.

    Raises:
        MissingFileError: There is no such network.
        DownloadError: The Hub cannot be reached, or does not have it.
        InputError: The folder's files do not belong together.
    """
    folder = _folder(str(name))
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        weights = safetensors.torch.load_file(folder / _WEIGHTS)
        _refuse_own_parts(config["architecture"])
        network = build(**config["architecture"])
        network.load_state_dict(weights)  # copies, so half precision becomes float32
        network.classes = tuple(config["classes"])
        network.colors = tuple((r, g, b) for r, g, b in config["colors"])
        network.mean = tuple(config.get("mean", IMAGENET_MEAN))
        network.std = tuple(config.get("std", IMAGENET_STD))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no network of save_pretrained, or an altered one: {error}"
        ) from error
    return network.eval()


def save_pretrained(
    network: SegmentationNetwork,
    folder: str | Path,
    *,
    classes: Sequence[str],
    colors: Sequence[tuple[int, int, int]] = (),
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    card: str = "",
    half: bool = False,
) -> None:
    """Write a network into a folder that :func:`from_pretrained`, and the Hub, can read.

    Args:
        classes: Name of each logit.
        colors: RGB of each class, for pictures; none = a palette of predict's own.
        mean: Of the images that it was trained on, as its dataset has it.
        std: Likewise, the standard deviation.
        card: Text of the model card: data, licence, score, how it was made, what it is not for.
        half: Write matrices and kernels in float16, half the size; vectors stay in float32.

    Raises:
        InputError: The classes are not one a logit; or the network has parts of one's own, whose
            code a folder does not hold, or a layer exchanged since ``build``.
    """
    _refuse_own_parts(network.architecture)
    _refuse_exchanged_layers(network)
    if len(classes) != network.architecture["num_classes"]:
        raise InputError(
            f"there are {len(classes)} classes, {', '.join(classes)}, and "
            f"{network.architecture['num_classes']} logits; name each logit"
        )
    folder = Path(folder)
    content: dict[str, Any] = {
        "architecture": {**network.architecture, "output_stride": network.output_stride},
        "classes": list(classes),
        "colors": [list(color) for color in colors],
        "mean": list(mean),
        "std": list(std),
    }
    state = {
        name: (value.half() if half and value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    with written_whole(folder / _WEIGHTS) as path:
        path.write_bytes(safetensors.torch.save(state, {"format": "pt"}))
    write_text(folder / _CARD, card)
    write_text(folder / _CONFIG, json.dumps(content, indent=1) + "\n")


def _refuse_own_parts(architecture: Mapping[str, Any]) -> None:
    for part in ("head", "backbone"):
        if own.is_path(str(architecture[part])):
            raise InputError(
                f"{part} {architecture[part]!r} is somebody's own code, which a folder does not "
                "hold; share the code, and load the run's checkpoint with engine.load_network"
            )


def _refuse_exchanged_layers(network: SegmentationNetwork) -> None:
    """A folder holds how a network was built: what has been exchanged since would not fit."""
    now = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    with torch.device("meta"):
        built = build(**network.architecture)
    then = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    for name in [*now, *then]:
        if now.get(name) != then.get(name):
            raise InputError(
                f"the network is no longer as build made it: {name} is {now.get(name, 'absent')}, "
                f"not {then.get(name, 'absent')}. For other classes, build a network with that "
                "num_classes and load what fits of the old one's state dict"
            )


def _folder(name: str) -> Path:
    if name in SHIPPED:
        return SHIPPED[name]
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise MissingFileError(
            f"there is no trained network {name!r}: it is no folder, none of those that come with "
            f"the package ({', '.join(SHIPPED)}), and no owner/name on the Hugging Face Hub"
        )
    # Here, since it takes a while to import and most networks are no downloads.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=[_CONFIG, _WEIGHTS, _CARD]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DownloadError(
            f"{name!r} is no folder here, and could not be had from the Hugging Face Hub "
            f"({why_not_fetched(error)}); download it by hand and give its folder"
        ) from error

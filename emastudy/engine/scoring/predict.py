"""Predictions for single images: padded, averaged over views, put together from windows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from emastudy import options
from emastudy.datasets import SegmentationDataset, pad_to_grid
from emastudy.engine.config import Scale
from emastudy.errors import InputError, require, said
from emastudy.networks import SegmentationNetwork, evaluation_mode

#: What knows the mean and standard deviation of a network's images.
Normalised = type[SegmentationDataset] | SegmentationDataset | SegmentationNetwork
#: The scales that multi-scale scores are averaged over.
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@dataclass(frozen=True)
class Views:
    """The views of an image that a prediction is averaged over.

    Raises:
        InputError: No scale, one out of its range, or a negative window.
    """

    scales: Sequence[Scale] = (1.0,)  #: Factors of height and width, ``MULTI_SCALE`` for instance.
    flip: bool = False  #: Whether to add the mirror image at every scale.
    #: Side of the square windows, pixels, that slide over a view larger than one; they overlap by a
    #: third or more and probabilities are averaged where they do. 0 = the network sees every view
    #: whole. The crop size of training suits.
    window: options.NonNegativeInt = 0

    def __post_init__(self) -> None:
        options.check_types("", vars(self), Views)
        require(len(self.scales) > 0, "scales", self.scales, "at least one")

    @property
    def single(self) -> bool:
        """Whether there is one view alone, the whole image as it is."""
        return tuple(self.scales) == (1.0,) and not self.flip and not self.window


@torch.inference_mode()
def classify(
    network: nn.Module,
    image: Float[Tensor, "b 3 h w"],
    views: Views = Views(),
    dtype: torch.dtype | None = None,
    num_classes: int = 0,
) -> Int[Tensor, "b h w"]:
    """Class of every pixel of normalised images: the one of the largest mean probability.

    Args:
        image: (B, 3, H, W).
        views: What is averaged over.
        dtype: Type that matrix products are computed in under autocast; None = float32.
        num_classes: How many there are; 0 = as many as the network has logits.

    Raises:
        InputError: The network does not make that many logits, or none at all.
    """
    alone = tuple(views.scales) == (1.0,) and not views.flip
    if alone and not 0 < views.window < max(image.shape[-2:]):
        scores = forward(network, image, dtype)  # no softmax is needed
    else:
        scores = _summed(network, image, views, dtype)
    if num_classes and scores.shape[1] != num_classes:
        raise InputError(
            f"the network makes {scores.shape[1]} logits, and the dataset has {num_classes} "
            "classes: give a network that was trained for these classes"
        )
    return scores.argmax(dim=1)


def _summed(
    network: nn.Module, image: Float[Tensor, "b 3 h w"], views: Views, dtype: torch.dtype | None
) -> Float[Tensor, "b c h w"]:
    """Σ_v softmax(logits_v), over the scales and, with ``flip``, the mirror image at every scale.

    A view is resized bilinearly with antialiasing, as in training, and its probabilities are
    resized back alike.
    """
    size = (image.shape[-2], image.shape[-1])
    total: Tensor | None = None
    for scale in views.scales:
        scaled = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        view = _resized(image, scaled)
        for mirrored in (False, True) if views.flip else (False,):
            seen = view.flip(-1) if mirrored else view
            found = _probabilities(network, seen, views.window, dtype)
            found = _resized(found.flip(-1) if mirrored else found, size)
            total = found if total is None else total.add_(found)
    assert total is not None  # there is a scale
    return total


def _resized(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _probabilities(
    network: nn.Module, image: Float[Tensor, "b 3 h w"], window: int, dtype: torch.dtype | None
) -> Float[Tensor, "b c h w"]:
    """Softmax of the logits, averaged over windows where the image is larger than one."""
    height, width = image.shape[-2:]
    if not 0 < window < max(height, width):
        return forward(network, image, dtype).softmax(dim=1)
    total: Tensor | None = None
    times = image.new_zeros(height, width)
    for top in _starts(height, window):
        for left in _starts(width, window):
            place = (..., slice(top, top + window), slice(left, left + window))
            part = forward(network, image[place], dtype).softmax(dim=1)
            if total is None:
                total = part.new_zeros(*part.shape[:2], height, width)
            total[place] += part
            times[place] += 1
    assert total is not None  # there is a window
    return total.div_(times)  # in place: it may fill the memory


def _starts(side: int, window: int) -> Iterator[int]:
    """First pixels of windows that cover a side evenly and overlap by a third or more."""
    steps = max(0, math.ceil((side - window) / (window - window // 3)))
    return (round(step * (side - window) / max(1, steps)) for step in range(steps + 1))


@torch.inference_mode()
def forward(
    network: nn.Module, image: Float[Tensor, "b 3 h w"], dtype: torch.dtype | None = None
) -> Float[Tensor, "b c h w"]:
    """Logits of normalised images, padded for the pass, see ``pad_to_grid``.

    Logits of a smaller size are upsampled bilinearly with aligned corners, as in training.
    """
    height, width = image.shape[-2:]
    stride = getattr(network, "output_stride", 8)
    padded = pad_to_grid(image, stride).contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, dtype, enabled=dtype is not None):
        logits = network(padded)
    if not (isinstance(logits, Tensor) and logits.ndim == 4):
        raise InputError(
            f"the network returns {said(logits)}; expected logits (B, classes, H, W) and nothing "
            "beside them"
        )
    logits = logits.float()
    if logits.shape[-2:] != padded.shape[-2:]:
        size = padded.shape[-2:]
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
    return logits[..., :height, :width]


def predict(
    network: nn.Module,
    image: Integer[Tensor, "3 h w"],
    dataset: Normalised,
    *,
    views: Views = Views(),
    dtype: torch.dtype | None = None,
) -> Int[Tensor, "h w"]:
    """Class index per pixel of one image.

    Args:
        network: Any network of images to logits; it is left as it was.
        image: (3, H, W) uint8 RGB.
        dataset: Gives mean and standard deviation that the network was trained with: its dataset,
            open or not, or a network of ``from_pretrained``, which knows its own.
        views: What the prediction is averaged over.
        dtype: Type that matrix products are computed in under autocast; None = float32.

    Raises:
        InputError: The image is another than that; or see :func:`classify`.
    """
    with evaluation_mode(network):
        return classify(network, _normalised(network, image, dataset), views, dtype)[0].cpu()


def predict_probabilities(
    network: nn.Module,
    image: Integer[Tensor, "3 h w"],
    dataset: Normalised,
    *,
    views: Views = Views(),
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "c h w"]:
    """Probability of every class at every pixel of one image; arguments as for :func:`predict`."""
    number = len(views.scales) * (2 if views.flip else 1)
    with evaluation_mode(network), torch.inference_mode():
        total = _summed(network, _normalised(network, image, dataset), views, dtype)
        return total.div_(number)[0].cpu()


def _normalised(
    network: nn.Module,
    image: Integer[Tensor, "3 h w"],
    dataset: Normalised,
) -> Float[Tensor, "1 3 h w"]:
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.shape[:-2] != (3,):
        raise InputError(
            f"image is {said(image)}; expected a uint8 tensor of shape (3, H, W), RGB from 0 to "
            "255, as datasets.read_image gives it"
        )
    device = next(network.parameters()).device
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (dataset.mean, dataset.std))
    return ((image.to(device).float() / 255 - mean) / std)[None]

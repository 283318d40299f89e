"""From (image, mask) to network input, for training and for evaluation.

Image and mask are tv_tensors, so that every geometric transform moves both alike: images bilinear,
masks nearest.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from torch.utils.data import Dataset

from emastudy.datasets.base import IGNORE, SegmentationDataset


def training_transform(
    dataset: SegmentationDataset, *, scales: Sequence[float], crop_size: int
) -> nn.Module:
    """Random scale, flip, normalise, crop; images smaller than the crop are padded.

    Padding is 0 after normalisation (the mean colour) in the image and 255 (ignored) in the mask.

    Source: the paper's protocol as the released code has it.
    """
    from torchvision.transforms import v2
    from torchvision.tv_tensors import Image, Mask

    from emastudy.datasets.resizing import RandomScale

    scale = [] if tuple(scales) == (1.0,) else [RandomScale(scales)]
    crop = v2.RandomCrop(crop_size, pad_if_needed=True, fill={Image: 0, Mask: IGNORE})
    steps = [v2.RandomHorizontalFlip(0.5), evaluation_transform(dataset), crop, v2.ToPureTensor()]
    transform: nn.Module = v2.Compose([*scale, *steps])
    return transform


def evaluation_transform(dataset: SegmentationDataset) -> nn.Module:
    """Image to float32 with zero mean and unit variance, mask to int64; sizes stay."""
    from torchvision.transforms import v2
    from torchvision.tv_tensors import Image, Mask

    to_types = v2.ToDtype({Image: torch.float32, Mask: torch.int64}, scale=True)
    transform: nn.Module = v2.Compose([to_types, v2.Normalize(dataset.mean, dataset.std)])
    return transform


def whole_image_transform(dataset: SegmentationDataset, side: int, stride: int = 8) -> nn.Module:
    """Normalise, then the whole image in a square, see ``resizing.FitSquare``; nothing random.

    With ``side=0`` it stays as it is, padded to a multiple of ``stride`` plus one a side.
    """
    from torchvision.transforms import v2

    from emastudy.datasets.resizing import FitSquare

    transform: nn.Module = v2.Compose([evaluation_transform(dataset), FitSquare(side, stride)])
    return transform


def pad_to_grid(
    image: Float[torch.Tensor, "b 3 h w"], stride: int = 8
) -> Float[torch.Tensor, "b 3 _ _"]:
    """Normalised images padded right and below, with the mean colour, to 8k+1 a side.

    With sides of 8k+1 the corners of image and feature map coincide at strides up to 8, which is
    what bilinear upsampling with aligned corners assumes. At a larger ``stride`` (16, 32) it is
    to a multiple of that plus one.

    Source: the released code's evaluation, at stride 8.
    """
    height, width = image.shape[-2:]
    step = math.lcm(8, stride)
    return F.pad(image, (0, -(width - 1) % step, 0, -(height - 1) % step))


def misalignment(crop_size: int, stride: int) -> list[str]:
    """A warning where the corners of a crop and of its feature map do not coincide.

    The last of ⌈S/s⌉ positions is that of pixel s (⌈S/s⌉ - 1), and upsampling with aligned corners
    puts it on the last pixel, S - 1: towards right and below, predictions are learnt from the
    labels of other pixels.

    Args:
        crop_size: S, side of the crop in pixels; 0 = whole images, which are padded as is right.
        stride: s, image pixels per pixel of the feature map.

    Returns:
        One sentence with the nearest sides that are aligned; none where S is.

    Source: derived; the paper's 513 at stride 16 is aligned.
    """
    last = (crop_size - 1) // stride * stride
    off = crop_size - 1 - last
    if not off or not crop_size:
        return []
    sides = " or ".join(str(side) for side in (last + 1, last + stride + 1) if side > 1)
    return [
        f"crop_size is {crop_size}, no multiple of output_stride {stride} plus one: towards right "
        f"and below, what is learnt drifts up to {off} pixels from the labels; {sides} is without "
        "drift"
    ]


class TrainingStream(Dataset[tuple[Any, torch.Tensor]]):
    """The whole course of a training run as one long list of augmented samples.

    Position p of the list is image ``permutation(epoch)[p mod n]`` of epoch ``p // n``, augmented
    with random numbers that depend on (seed, p) alone. So the order and every crop are the same
    whatever the number of workers or processes, and a resumed run starts the list where it left
    off.

    Args:
        dataset: Where the samples come from: (image, mask), or whatever ``transform`` takes.
        transform: Makes a sample what the network takes, and its mask.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[..., tuple[Any, torch.Tensor]],
        *,
        seed: int,
        start: int,
        stop: int,
    ) -> None:
        self.dataset: Any = dataset
        self.transform = transform
        self.seed, self.start, self.stop = seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, offset: int) -> tuple[Any, torch.Tensor]:
        if not 0 <= offset < len(self):
            raise IndexError(offset)
        epoch, place = divmod(self.start + offset, len(self.dataset))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
        sample = self.dataset[int(order[place])]
        draw = np.random.SeedSequence((self.seed, epoch, place)).generate_state(1, np.uint64)
        # Dropout's random numbers are left alone. torch.manual_seed would seed GPUs as well, and
        # without any it keeps a traceback of every call.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(draw[0]))
            return self.transform(*sample)

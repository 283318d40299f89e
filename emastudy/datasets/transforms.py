"""From (image, mask) to network input, for training and for evaluation.

Floor: datasets (imports torchvision.transforms.v2).

Image and mask are tv_tensors, so that every geometric transform moves both alike: images bilinear,
masks nearest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets.base import IGNORE, SegmentationDataset


class RandomScale(v2.Transform):  # type: ignore[misc]
    """Resize by a factor drawn uniformly from ``scales``."""

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the new size; torchvision calls this once for image and mask together."""
        factor = self.scales[int(torch.randint(len(self.scales), ()))]
        height, width = v2.functional.get_size(flat_inputs[0])
        return {"size": [round(height * factor), round(width * factor)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image (bilinear) or the mask (nearest)."""
        return v2.functional.resize(inpt, params["size"], antialias=True)


def training_transform(
    dataset: SegmentationDataset, *, scales: Sequence[float], crop_size: int
) -> v2.Transform:
    """Random scale, flip, normalise, crop; images smaller than the crop are padded.

    Padding is 0 after normalisation (the mean colour) in the image and 255 (ignored) in the mask.

    Source: the paper's protocol as the released code has it.
    """
    steps = [] if tuple(scales) == (1.0,) else [RandomScale(scales)]
    return v2.Compose(
        [
            *steps,
            v2.RandomHorizontalFlip(0.5),
            evaluation_transform(dataset),
            v2.RandomCrop(crop_size, pad_if_needed=True, fill={Image: 0, Mask: IGNORE}),
        ]
    )


def evaluation_transform(dataset: SegmentationDataset) -> v2.Transform:
    """Image to float32 with zero mean and unit variance, mask to int64; sizes stay."""
    return v2.Compose(
        [
            v2.ToDtype({Image: torch.float32, Mask: torch.int64}, scale=True),
            v2.Normalize(dataset.mean, dataset.std),
        ]
    )


class TrainingStream(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The whole course of a training run as one long list of augmented samples.

    Position p of the list is image ``permutation(epoch)[p mod n]`` of epoch ``p // n``, augmented
    with random numbers that depend on (seed, p) alone. So the order and every crop are the same
    whatever the number of workers or processes, and a resumed run starts the list where it left
    off.

    Args:
        dataset: Where the samples come from.
        transform: Applied to (image, mask).
        seed: Of order and augmentation.
        start: First position.
        stop: One past the last position.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: v2.Transform,
        *,
        seed: int,
        start: int,
        stop: int,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, offset: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= offset < len(self):
            raise IndexError(offset)
        epoch, place = divmod(self.start + offset, len(self.dataset))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
        sample = self.dataset[int(order[place])]
        draw = np.random.SeedSequence((self.seed, epoch, place)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):  # leave dropout's random numbers alone
            torch.manual_seed(int(draw[0]))
            image, mask = self.transform(*sample)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)

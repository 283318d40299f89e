"""What every dataset of the study offers.

Floor: datasets (imports torch and torchvision).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch.utils.data import Dataset
from torchvision.tv_tensors import Image, Mask

#: Mask value of pixels that belong to no class: neither trained on nor scored.
IGNORE = 255


def voc_color(index: int) -> tuple[int, int, int]:
    """Colour of a class in VOC's palette: the bits of the index, dealt to R, G and B in turn."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return rgb[0], rgb[1], rgb[2]


class SegmentationDataset(Dataset[tuple[Image, Mask]], ABC):
    """Images with a class index per pixel.

    Attributes:
        name: The dataset's name in ``datasets.load``.
        title: The dataset in one line.
        classes: Class names; a mask's value c means ``classes[c]``, 255 means ignored.
        mean: Per-channel mean of the images, in units of full scale (0-1).
        std: Per-channel standard deviation, in the same units.
        licence: Terms of images and annotation, in short.
        citation: The publication, or nothing.
    """

    name: str
    title: ClassVar[str]
    classes: tuple[str, ...]
    # ImageNet's statistics, which pretrained backbones expect.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    licence: ClassVar[str]
    citation: ClassVar[str]

    @classmethod
    def palette(cls, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        """One RGB triple (0-255) per class, for drawing masks; VOC's colour map by default."""
        return [voc_color(index) for index in range(len(classes))]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        """Image (3, H, W) uint8 and mask (H, W) uint8 of the same size."""


class View(SegmentationDataset):
    """Some images of another dataset, in their order, changed on the way; masks stay.

    Args:
        dataset: The dataset.
        indices: Which of its images; None = all.
        change: Called with an image and its index in ``dataset``; None = leave it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        indices: Sequence[int] | None = None,
        change: Callable[[Image, int], Image] | None = None,
    ) -> None:
        self.dataset = dataset
        self.indices = range(len(dataset)) if indices is None else indices
        self.change = change
        self.name, self.classes = dataset.name, dataset.classes
        self.mean, self.std = dataset.mean, dataset.std
        self.palette = dataset.palette  # type: ignore[method-assign]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        image, mask = self.dataset[self.indices[index]]
        return (self.change(image, self.indices[index]) if self.change else image), mask

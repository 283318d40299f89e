"""What every dataset of the study offers."""

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from torch import Tensor
from torch.utils.data import Dataset

from emastudy.datasets.fingerprint import Fingerprint, digest, evenly_spaced
from emastudy.errors import UnknownSplitError

#: Red, green and blue, 0-255.
Color = tuple[int, int, int]
#: Mask value of pixels that belong to no class: neither trained on nor scored.
IGNORE = 255


def voc_color(index: int) -> Color:
    """Colour of a class in VOC's palette: the bits of the index, dealt to R, G and B in turn."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return rgb[0], rgb[1], rgb[2]


def require_split(split: str, owner: object, there: Iterable[str]) -> None:
    """Raise UnknownSplitError unless a split is among those that are there."""
    there = tuple(there)
    if split not in there:
        raise UnknownSplitError(f"split is {split!r}; {owner} has {', '.join(there)}")


class _Palette:
    """``palette(classes)`` of an open dataset, or of its class where none is open."""

    def __get__(
        self, dataset: "SegmentationDataset | None", kind: "type[SegmentationDataset]"
    ) -> Callable[[Sequence[str]], list[Color]]:
        return kind.default_palette if dataset is None else dataset.own_palette


class SegmentationDataset(Dataset[tuple[Tensor, Tensor]], ABC):
    """Images with a class index per pixel.

    A dataset of one's own derives from this class: a constructor ``(split, **options)``, with a
    ``root`` where it reads files, that sets ``classes``, and ``__len__`` and ``__getitem__``.
    """

    name: str  #: The dataset's name in ``datasets.load``; by default that of the class.
    title: ClassVar[str] = ""
    split: str = ""  #: Which of its splits is open.
    classes: tuple[str, ...]  #: A mask's value c means ``classes[c]``, 255 means ignored.
    #: Called with names of classes: one colour each, for drawing masks. A dataset that is not open
    #: (``DATASETS[name].palette``) knows the benchmark's colours alone.
    palette = _Palette()
    #: Per-channel mean of images, full scale = 1: ImageNet's, which pretrained backbones expect.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    #: Per-channel standard deviation, likewise.
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in dir(cls):
            cls.name = cls.__name__

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """One colour per class; VOC's colour map where a dataset has none of its own."""
        return [voc_color(index) for index in range(len(classes))]

    def own_palette(self, classes: Sequence[str]) -> list[Color]:
        """One colour per class, as the open dataset has them."""
        return self.default_palette(classes)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) uint8 and mask (H, W) uint8 of the same size, as tv_tensors."""

    def fingerprint(self) -> Fingerprint:
        """Which data these are, told by a few images; see :class:`Fingerprint`."""

        def sample(index: int) -> tuple[str, str]:
            content = b"".join(part.contiguous().numpy().tobytes() for part in self[index])
            return str(index), hashlib.sha256(content).hexdigest()[:16]

        some = tuple(map(sample, evenly_spaced(len(self), 8)))
        return Fingerprint(self.name, self.split, len(self), self.classes, (IGNORE,), samples=some)


class View(SegmentationDataset):
    """Some images of another dataset, in their order, changed on the way; masks stay.

    Args:
        indices: Which of its images; None = all.
        change: Called with an image and its index in ``dataset``; None = leave it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        indices: Sequence[int] | None = None,
        change: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        self.dataset = dataset
        self.indices = range(len(dataset)) if indices is None else indices
        self.change = change
        self.name, self.split, self.classes = dataset.name, dataset.split, dataset.classes
        self.mean, self.std = dataset.mean, dataset.std

    def own_palette(self, classes: Sequence[str]) -> list[Color]:
        """The colours of the other dataset."""
        return self.dataset.own_palette(classes)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.dataset[self.indices[index]]
        return (self.change(image, self.indices[index]) if self.change else image), mask

    def fingerprint(self) -> Fingerprint:
        """That of the other dataset, with the images taken and a few of them as changed."""
        whole, seen = self.dataset.fingerprint(), super().fingerprint()
        content = digest([whole.content, whole.names, *self.indices])
        return dataclasses.replace(whole, images=len(self), content=content, samples=seen.samples)

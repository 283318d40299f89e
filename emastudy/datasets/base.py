"""What every dataset of the study offers."""

import dataclasses
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, uint8
from torch.utils.data import Dataset

from emastudy.datasets.fingerprint import Fingerprint, digest, evenly_spaced
from emastudy.errors import InputError, UnknownSplitError, said

# Here as elsewhere torchvision, which takes as long as torch, is imported only where it is used.


def as_image(pixels: Tensor) -> Tensor:
    """Pixels (3, H, W) as an image, which torchvision's transforms tell from a mask."""
    from torchvision.tv_tensors import Image

    image: Tensor = Image(pixels)
    return image


def as_mask(classes: Tensor) -> Tensor:
    """Class indices (H, W) as a mask."""
    from torchvision.tv_tensors import Mask

    mask: Tensor = Mask(classes)
    return mask


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


class SegmentationDataset(Dataset[tuple[Tensor, Tensor]], ABC):
    """Images with a class index per pixel.

    A dataset of one's own derives from this class: a constructor ``(split, **options)``, with a
    ``root`` where it reads files, that sets ``classes`` (and ``palette``, ``mean`` and ``std``
    where the usual ones do not suit), and ``__len__`` and ``__getitem__``. What its
    ``__getitem__`` returns is examined; plain tensors will do. It returns the same each time:
    scaling, cropping and mirroring at random are left to training (``scales`` and ``crop_size`` of
    a ``RunConfig``).
    """

    name: str  #: The dataset's name in ``datasets.load``; by default that of the class.
    title: ClassVar[str] = ""
    split: str = ""  #: Which of its splits is open.
    classes: tuple[str, ...]  #: A mask's value c means ``classes[c]``, 255 means ignored.
    #: Per-channel mean of images, full scale = 1: ImageNet's, which pretrained backbones expect.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    #: Per-channel standard deviation, likewise.
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith("emastudy."):
            return
        if "name" not in vars(cls):
            cls.name = cls.__name__
        # Of any base, for a class may derive from somebody else's dataset as well.
        get = cls.__getitem__
        if not (hasattr(get, "examined") or f"{get.__module__}".startswith("emastudy.")):
            cls.__getitem__ = _examined(get)  # type: ignore[method-assign]

    @functools.cached_property
    def palette(self) -> list[Color]:
        """RGB of each class, for drawing masks."""
        return self.default_palette(self.classes)

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """One colour per class; VOC's colour map where a dataset has none of its own."""
        return [voc_color(index) for index in range(len(classes))]

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


def _examined(get: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A ``__getitem__`` of somebody's own, whose result is examined."""

    @functools.wraps(get)
    def examined(self: SegmentationDataset, index: int) -> tuple[Tensor, Tensor]:
        item = get(self, index)
        split = f" of split {self.split!r}" if self.split else ""
        try:
            return _examine(item, len(self.classes))
        except ValueError as error:
            owner = f"dataset {type(self).__name__!r}"
            raise InputError(f"{owner}: item {index}{split} {error}") from None

    examined.examined = True  # type: ignore[attr-defined]
    return examined


def _examine(item: Any, classes: int) -> tuple[Tensor, Tensor]:
    """An item as tv_tensors, if it can be trained on or scored; the error says why not."""
    if not (isinstance(item, tuple | list) and len(item) == 2):
        raise ValueError(f"is a {type(item).__name__}; expected a pair of image and mask")
    image, mask = item
    if not isinstance(image, Tensor) or image.dtype != uint8 or image.shape[:-2] != (3,):
        raise ValueError(
            f"has {said(image)} as image; expected a uint8 tensor of shape (3, H, W), as of "
            "datasets.read_image; torch.from_numpy(np.array(picture.convert('RGB'))).permute(2, 0, "
            "1) makes one of a PIL picture"
        )
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.ndim != 2:
        raise ValueError(
            f"has {said(mask)} as mask; expected a uint8 tensor of shape (H, W), as of "
            "torch.from_numpy(np.array(picture)); mask[0] of (1, H, W), mask.byte() of floats"
        )
    if mask.shape != image.shape[1:]:
        raise ValueError(f"has {said(mask)} as mask of {said(image)}; make them of one size")
    labels = mask[mask != IGNORE].long()  # in uint8, 300 classes would be 44
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(
            f"has the value {int(wrong[0])} in its mask; expected 0 to {classes - 1}, the indices "
            f"of classes, or {IGNORE} for pixels that are ignored"
        )
    return as_image(image), as_mask(mask)


def require_repeatable(dataset: SegmentationDataset, index: int) -> None:
    """Refuse an item of somebody's own that is not the same twice."""
    once, again = dataset[index], dataset[index]
    if not all(map(torch.equal, once, again)):
        raise InputError(
            f"dataset {dataset.name!r}: item {index} of split {dataset.split!r} differs each "
            "time it is read, so no two scores would be of the same data; remove the randomness "
            "from __getitem__: training itself mirrors images, and scales and crops them "
            "(scales and crop_size of the run)"
        )


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
        self.palette, self.mean, self.std = dataset.palette, dataset.mean, dataset.std

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

"""PASCAL VOC 2012 segmentation, in its official layout.

Floor: datasets.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets.base import IGNORE, SegmentationDataset
from emastudy.datasets.files import read_image, read_mask

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


def voc_color(index: int) -> tuple[int, int, int]:
    """Colour of a class in VOC's palette: the bits of the index, dealt to R, G and B in turn."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return rgb[0], rgb[1], rgb[2]


class VOC2012(SegmentationDataset):
    """PASCAL VOC 2012: 20 object classes and background (Everingham et al., IJCV 2015).

    Layout of ``root`` (or of ``root/VOCdevkit/VOC2012`` or ``root/VOC2012``)::

        ImageSets/Segmentation/{train,val,trainaug}.txt   one image name per line
        JPEGImages/NAME.jpg
        SegmentationClass/NAME.png      palette PNG, values 0-20, 255 = ignored
        SegmentationClassAug/NAME.png   the same with the masks of SBD (Hariharan et al., 2011)

    ``trainaug`` reads ``SegmentationClassAug``; the other splits read ``SegmentationClass`` where
    it exists, which marks object borders as ignored.

    Args:
        root: Where the dataset lies.
        split: Name of a list in ``ImageSets/Segmentation``.
        classes: Names of the classes to keep, in the order of their new indices; pixels of all
            others count as ignored. None keeps the 21.

    Raises:
        FileNotFoundError: ``root`` has not this layout, or files named by the split are missing.
        ValueError: Unknown class, empty split; on reading, a damaged image, a mask that is no
            palette image, holds other values or has another size than its image.

    Photographs are under Flickr's terms; annotations are free for research.
    """

    name = "voc2012"

    def __init__(
        self, root: str | Path, split: str = "train", *, classes: Sequence[str] | None = None
    ) -> None:
        chosen = tuple(classes) if classes is not None else VOC_CLASSES
        unknown = [name for name in chosen if name not in VOC_CLASSES]
        if unknown:
            raise ValueError(
                f"classes: VOC has no {', '.join(map(repr, unknown))}; it has "
                + ", ".join(VOC_CLASSES)
            )
        folder = _voc_folder(Path(root))
        self.classes = chosen
        # VOC index → new index. 254 marks values that VOC does not have.
        self._lookup = np.full(256, 254, dtype=np.uint8)
        self._lookup[: len(VOC_CLASSES)] = IGNORE
        self._lookup[IGNORE] = IGNORE
        for new, name in enumerate(chosen):
            self._lookup[VOC_CLASSES.index(name)] = new

        masks = folder / "SegmentationClass"
        if split == "trainaug" or not masks.is_dir():
            masks = folder / "SegmentationClassAug"
        self.names = _read_list(folder / "ImageSets" / "Segmentation", split)
        self._images, self._masks = folder / "JPEGImages", masks
        _require(self._images, self.names, ".jpg", split)
        _require(self._masks, self.names, ".png", split)

    @classmethod
    def palette(cls, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        """VOC's own colours."""
        return [voc_color(VOC_CLASSES.index(name)) for name in classes]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        image_path = self._images / f"{self.names[index]}.jpg"
        mask_path = self._masks / f"{self.names[index]}.png"
        image = read_image(image_path)
        mask = Mask(torch.from_numpy(self._lookup[read_mask(mask_path)]))
        if (mask == 254).any():
            raise ValueError(
                f"{mask_path} holds values that are no VOC class (0-20, or 255 for ignored); "
                "is it a mask of another dataset?"
            )
        if mask.shape != image.shape[1:]:
            raise ValueError(
                f"{mask_path} is {mask.shape[1]}×{mask.shape[0]} pixels but {image_path} is "
                f"{image.shape[2]}×{image.shape[1]}; they must agree"
            )
        return image, mask


def _voc_folder(root: Path) -> Path:
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"data root {root} {what}; give the folder that holds VOC 2012")
    for folder in (root, root / "VOCdevkit" / "VOC2012", root / "VOC2012"):
        if (folder / "JPEGImages").is_dir():
            break
    else:
        raise FileNotFoundError(
            f"data root {root} holds no VOC 2012: neither JPEGImages/ nor "
            "VOCdevkit/VOC2012/JPEGImages/ is in it. Is the archive unpacked?"
        )
    missing = [name for name in ("ImageSets/Segmentation",) if not (folder / name).is_dir()]
    if not any((folder / f"SegmentationClass{s}").is_dir() for s in ("", "Aug")):
        missing.append("SegmentationClass or SegmentationClassAug")
    if missing:
        raise FileNotFoundError(
            f"{folder} has JPEGImages/ but lacks {' and '.join(missing)}: it is half unpacked"
        )
    return folder


def _read_list(folder: Path, split: str) -> list[str]:
    path = folder / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"split {split!r}: there is no {path}; lists there: {there}")
    names = path.read_text().split()
    if not names:
        raise ValueError(f"split {split!r}: {path} names no image")
    return names


def _require(folder: Path, names: list[str], suffix: str, split: str) -> None:
    present = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in names if name + suffix not in present]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(names)} files that split {split!r} "
            f"names, {missing[0]}{suffix} the first; unpack the dataset again or mend the list"
        )

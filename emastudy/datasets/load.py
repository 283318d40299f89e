"""Datasets by name."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emastudy import options as named
from emastudy import own
from emastudy.datasets.base import IGNORE, SegmentationDataset, require_repeatable
from emastudy.datasets.camvid import CamVid
from emastudy.datasets.coco_stuff import CocoStuff, CocoStuff164k
from emastudy.datasets.files import FileDataset
from emastudy.datasets.folder import Folder
from emastudy.datasets.pascal_context import PascalContext
from emastudy.datasets.scenes import Scenes
from emastudy.datasets.voc import VOC2012
from emastudy.errors import InputError, require

#: Name → class. A class whose constructor has a ``root`` reads files; the others draw.
DATASETS: dict[str, type[SegmentationDataset]] = {
    "scenes": Scenes,
    "voc2012": VOC2012,
    "camvid": CamVid,
    "pascal_context": PascalContext,
    "coco_stuff": CocoStuff,
    "coco_stuff_164k": CocoStuff164k,
    "folder": Folder,
}


def load(
    name: str, split: str = "train", *, root: str | Path | None = None, **options: Any
) -> SegmentationDataset:
    """Open a dataset.

    Args:
        name: One of ``DATASETS``; ``emastudy data`` lists them. Or the import path of a class of
            your own, ``my_module:MyData``, derived from ``SegmentationDataset``.
        split: A split of that dataset: "train" and "val" everywhere, "trainaug" in VOC.
        root: The dataset's folder in its official layout; not used where a class has no ``root``,
            as that of scenes.
        options: The dataset's own options, for instance ``classes`` or ``noise``.

    Raises:
        ValueError: Unknown name, split or option, an option of another type, or no root where one
            is needed; or what is wrong with a dataset of your own, its first item included.
        FileNotFoundError: The root, or a file that a split names, is not there.
    """
    kind = find(name)
    arguments = {"split": split, **options}
    if "root" in inspect.signature(kind).parameters:
        if root is None or str(root) == "":
            raise InputError(
                f"dataset {name!r} lies in files: say where with root (data_root, DATA_ROOT=... "
                "for make, --data-root for the command, --root for emastudy data)"
            )
        arguments["root"] = root
    require_arguments(kind, arguments)
    make: Callable[..., SegmentationDataset] = kind
    if not own.is_path(name):
        return make(**arguments)
    with own.blamed(f"dataset {name!r} cannot be opened"):
        dataset = make(**arguments)
    _require_attributes(name, dataset)
    if not dataset.split:
        dataset.split = split
    if not isinstance(dataset, FileDataset):
        with own.blamed(f"dataset {name!r}, split {split!r}: its first item cannot be read"):
            if len(dataset) < 1:
                raise InputError(f"dataset {name!r} has no images in split {split!r}")
            require_repeatable(dataset, 0)
    return dataset


def _require_attributes(name: str, dataset: SegmentationDataset) -> None:
    """Refuse a dataset of one's own whose classes, colours, mean or std cannot be used."""
    classes = getattr(dataset, "classes", ())
    if not classes:
        raise InputError(f"dataset {name!r} has no classes; its constructor must set self.classes")
    named = isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes)
    require(named, f"dataset {name!r}: classes", classes, "a tuple of names")
    if twice := [c for c, count in Counter(classes).items() if count > 1]:
        raise InputError(f"dataset {name!r}: classes names {', '.join(twice)} twice")
    if len(classes) > IGNORE:
        raise InputError(
            f"dataset {name!r} has {len(classes)} classes; masks have room for {IGNORE}, since "
            f"{IGNORE} in them says ignored"
        )
    try:
        colors = np.asarray(dataset.palette)
    except ValueError:  # of unequal lengths
        colors = np.empty(0)
    fits = colors.shape == (len(classes), 3) and np.issubdtype(colors.dtype, np.integer)
    fits = bool(fits and colors.min() >= 0 and colors.max() <= 255)
    expected = f"{len(classes)} triples of whole numbers, red, green and blue from 0 to 255"
    require(fits, f"dataset {name!r}: palette", dataset.palette, expected)
    for field in ("mean", "std"):
        value: Any = getattr(dataset, field)
        try:
            low, _, high = sorted(map(float, value))
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        fits = 0 <= low <= high <= 1 and (low > 0 or field == "mean")
        expected = "three numbers, for red, green and blue, from 0 to 1 (full scale = 1)"
        require(fits, f"dataset {name!r}: {field}", value, expected)


def find(name: str) -> type[SegmentationDataset]:
    """The class of a dataset by its name or import path.

    Raises:
        InputError: Unknown name; or what the path leads to is no ``SegmentationDataset``, or
            lacks an attribute of one.
    """
    if name in DATASETS:
        return DATASETS[name]
    if not own.is_path(name):
        own.refuse_module("dataset", name)
        raise InputError(
            f"dataset is {name!r}; there are {', '.join(sorted(DATASETS))}, and import paths "
            "of your own like my_module:MyData"
        )
    kind = own.load(name)
    if not (isinstance(kind, type) and issubclass(kind, SegmentationDataset)):
        raise InputError(
            f"dataset {name!r} is {kind!r:.60}; expected a class derived from "
            "emastudy.datasets.SegmentationDataset"
        )
    return kind


def require_arguments(kind: type[SegmentationDataset], arguments: Mapping[str, object]) -> None:
    """Refuse options that a dataset's constructor does not have, lacks or takes as another type."""
    owner, signature = f"dataset {kind.name!r}", inspect.signature(kind)
    if not named.takes_any(kind):
        given = {*arguments} - {"root", "split"}
        named.check(owner, given, {*signature.parameters} - {"root", "split"})
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"{owner}: {error}; its constructor takes ({', '.join(signature.parameters)}): split, "
            "root where it reads files, and options (--dataset-options NAME=VALUE)"
        ) from None
    named.check_types(owner, arguments, kind)

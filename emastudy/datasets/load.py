"""Datasets by name.

Floor: datasets.
"""

from pathlib import Path
from typing import Any

from emastudy.datasets.base import SegmentationDataset
from emastudy.datasets.camvid import CamVid
from emastudy.datasets.coco_stuff import CocoStuff, CocoStuff164k
from emastudy.datasets.folder import Folder
from emastudy.datasets.pascal_context import PascalContext
from emastudy.datasets.scenes import Scenes
from emastudy.datasets.voc import VOC2012

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
        name: One of ``DATASETS``; ``emastudy data`` lists them.
        split: A split of that dataset: "train" and "val" everywhere, "trainaug" in VOC.
        root: The dataset's folder in its official layout; not used by scenes.
        options: The dataset's own options, for instance ``classes`` or ``noise``.

    Raises:
        ValueError: Unknown name, split or option, or no root where one is needed.
        FileNotFoundError: The root, or a file that a split names, is not there.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset is {name!r}; there are {', '.join(sorted(DATASETS))}")
    if name == "scenes":
        arguments: dict[str, Any] = options
    elif root is None or str(root) == "":
        raise ValueError(
            f"dataset {name!r} lies in files: say where with root (data_root, DATA_ROOT=... "
            "for make, --data-root for the command)"
        )
    else:
        arguments = {"root": root, **options}
    try:
        return DATASETS[name](split=split, **arguments)  # type: ignore[call-arg]
    except TypeError as error:
        raise ValueError(f"dataset {name!r}: {error}") from error

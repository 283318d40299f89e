"""Anybody's own images and masks: two folders and a small YAML file.

Floor: datasets.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from emastudy.datasets.base import IGNORE, voc_color
from emastudy.datasets.files import (
    SUFFIXES,
    FileDataset,
    Pair,
    pair_files,
    read_list,
    require_folder,
)

logger = logging.getLogger(__name__)

#: The file that describes a root.
DESCRIPTION = "dataset.yaml"
_FIELDS = ("classes", "colors", "ignore", "images", "masks", "splits")


class Folder(FileDataset):
    """Pairs of image and mask files with the classes that ``root/dataset.yaml`` names.

    The file::

        classes: [background, crack]   # mask value 0, 1; or {background: 0, crack: 255}
        colors: {crack: [255, 0, 0]}   # optional; else VOC's colour map
        ignore: 255                    # optional: one value or a list; 255 unless a class has it
        images: images                 # optional: the folders
        masks: masks
        splits:                        # optional: lists of names, one a line
          train: train.txt
          val: val.txt

    An image and its mask have the same name, whatever their endings (png, jpg, bmp, tif, webp).
    Without ``splits`` each split is a folder in both: ``images/train/a.jpg`` belongs to
    ``masks/train/a.png``. Masks are palette or greyscale pictures of 8 or 16 bits. For arguments
    and errors see :class:`~emastudy.datasets.files.FileDataset`.
    """

    name = "folder"
    title = "Your own images and masks: two folders and a small YAML file"
    all_classes: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    counts: ClassVar[dict[str, int]] = {}
    layout = (
        "dataset.yaml (classes: [NAME, ...]), images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png; or "
        "splits: {train: train.txt, ...} in dataset.yaml, images/NAME.jpg, masks/NAME.png"
    )
    licence = "yours"
    citation = ""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        complete: bool = True,
    ) -> None:
        description = _read_description(self.locate(Path(root)))
        self.all_classes = tuple(description.values)
        self.colors = description.colors
        self.palette = self._own_palette  # type: ignore[method-assign]
        self.stored = {
            **{value: index for index, value in enumerate(description.values.values())},
            **dict.fromkeys(description.ignored, IGNORE),
        }
        super().__init__(root, split, classes=classes, complete=complete)

    @classmethod
    def palette(cls, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        """VOC's colour map, and a warning: only an open dataset knows the colours of its file."""
        logger.warning("colours: those of %s are not known here; VOC's are taken", DESCRIPTION)
        return super(FileDataset, cls).palette(classes)

    def _own_palette(self, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        return [self.colors[self.all_classes.index(name)] for name in classes]

    @classmethod
    def locate(cls, root: Path) -> Path:
        """``root`` itself."""
        require_folder(root, DESCRIPTION)
        if not (root / DESCRIPTION).is_file():
            raise FileNotFoundError(f"data root {root} has no {DESCRIPTION}. Expected {cls.layout}")
        return root

    @classmethod
    def splits(cls, root: Path) -> tuple[str, ...]:
        """Those that dataset.yaml lists, or else the folders of images."""
        description = _read_description(root)
        if description.lists:
            return tuple(description.lists)
        images = root / description.images
        found = sorted(p.name for p in images.iterdir() if p.is_dir()) if images.is_dir() else []
        if not found:
            raise FileNotFoundError(
                f"{images} has no folder for a split (train, val, ...) and {root / DESCRIPTION} "
                "has no splits"
            )
        return tuple(found)

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of the split's list, or all files of its folders."""
        description = _read_description(root)
        there = self.splits(root)
        if split not in there:
            raise ValueError(f"split is {split!r}; {root} has {', '.join(there)}")
        images, masks = root / description.images, root / description.masks
        if not description.lists:
            return pair_files(images / split, masks / split, split=split)
        names = [
            Path(line).with_suffix("").as_posix() if Path(line).suffix.lower() in SUFFIXES else line
            for line in read_list(root / description.lists[split], split)
        ]
        return pair_files(images, masks, names, split=split)


@dataclass(frozen=True)
class _Description:
    values: dict[str, int]
    colors: tuple[tuple[int, int, int], ...]
    ignored: tuple[int, ...]
    images: str
    masks: str
    lists: dict[str, str]


def _read_description(root: Path) -> _Description:
    path = root / DESCRIPTION
    try:
        content: Any = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or "classes" not in content:
        raise ValueError(f"{path} has to say at least classes: [NAME, NAME, ...]")
    unknown = [str(name) for name in content if name not in _FIELDS]
    if unknown:
        raise ValueError(f"{path}: unknown {', '.join(unknown)}; there are {', '.join(_FIELDS)}")

    classes = content["classes"]
    if isinstance(classes, list):
        if len(set(map(str, classes))) < len(classes):
            raise ValueError(f"{path}: classes names one twice")
        classes = {name: value for value, name in enumerate(classes)}
    # YAML 1.1 reads a bare yes, no, on or off as a truth value.
    wrong = not isinstance(classes, dict) or any(isinstance(name, bool) for name in classes)
    values = {} if wrong else {str(name): value for name, value in classes.items()}
    if not 1 <= len(values) <= 254 or not all(_is_value(value) for value in values.values()):
        raise ValueError(
            f"{path}: classes has to be a list of 1 to 254 names, or a table from name to mask "
            "value (0-65535); quote names such as 'no'"
        )
    if len(set(values.values())) < len(values):
        raise ValueError(f"{path}: two classes have the same mask value")

    ignore = content.get("ignore", [] if IGNORE in values.values() else IGNORE)
    ignored = tuple(ignore) if isinstance(ignore, list) else (ignore,)
    if not all(_is_value(value) for value in ignored) or set(ignored) & set(values.values()):
        raise ValueError(f"{path}: ignore has to be mask values (0-65535) that no class has")

    colors = content.get("colors") or {}
    if not isinstance(colors, dict) or not all(
        name in values and isinstance(color, list) and len(color) == 3 and all(map(_is_byte, color))
        for name, color in colors.items()
    ):
        raise ValueError(
            f"{path}: colors has to be a table from class to [red, green, blue], 0-255"
        )

    lists = content.get("splits") or {}
    if not isinstance(lists, dict) or not all(isinstance(name, str) for name in lists.values()):
        raise ValueError(f"{path}: splits has to be a table from split to the file with its names")
    return _Description(
        values=values,
        colors=tuple(
            (*colors[name],) if name in colors else voc_color(index)
            for index, name in enumerate(values)
        ),
        ignored=ignored,
        images=str(content.get("images", "images")),
        masks=str(content.get("masks", "masks")),
        lists={str(split): name for split, name in lists.items()},
    )


def _is_value(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16


def _is_byte(value: object) -> bool:
    return _is_value(value) and int(str(value)) < 256

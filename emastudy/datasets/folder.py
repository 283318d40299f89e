"""Anybody's own images and masks: two folders and a small YAML file."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from emastudy.datasets.base import IGNORE, Color, require_split, voc_color
from emastudy.datasets.files import FileDataset
from emastudy.datasets.lists import Pair, pair_files, read_list, require_folder
from emastudy.errors import InputError, MissingFileError

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

    An image and its mask have the same name, whatever their endings. Without ``splits`` each
    split is a folder in both: ``images/train/a.jpg`` belongs to ``masks/train/a.png``. Which files
    are read, and how, says :mod:`emastudy.datasets.images`; hidden files are passed over. For
    arguments and errors see :class:`~emastudy.datasets.files.FileDataset`.
    """

    name = "folder"
    title = "Your own images and masks: two folders and a small YAML file"
    all_classes: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
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
        self.stored = {
            **{value: index for index, value in enumerate(description.values.values())},
            **dict.fromkeys(description.ignored, IGNORE),
        }
        super().__init__(root, split, classes=classes, complete=complete)

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """VOC's colour map, and a warning: only an open dataset knows the colours of its file."""
        logger.warning("colours: those of %s are not known here; VOC's are taken", DESCRIPTION)
        return super(FileDataset, cls).default_palette(classes)

    @classmethod
    def locate(cls, root: Path) -> Path:
        """``root`` itself."""
        require_folder(root, DESCRIPTION)
        if not (root / DESCRIPTION).is_file():
            others = ", ".join(sorted(path.name for path in root.glob("[!.]*.y*ml")))
            raise MissingFileError(
                f"data root {root} has no {DESCRIPTION}{f', but {others}' * bool(others)}. "
                f"Expected {cls.layout}"
            )
        return root

    @classmethod
    def splits(cls, root: Path) -> tuple[str, ...]:
        """Those that dataset.yaml lists, or else the folders of images."""
        description = _read_description(root)
        if description.lists:
            return tuple(description.lists)
        images = root / description.images
        folders = (p for p in images.iterdir() if p.is_dir()) if images.is_dir() else ()
        found = sorted(folder.name for folder in folders if not folder.name.startswith("."))
        if not found:
            raise MissingFileError(
                f"{images} has no folder for a split (train, val, ...) and {root / DESCRIPTION} "
                "has no splits: make folders in it, or lists of names and "
                "splits: {train: train.txt, val: val.txt}"
            )
        return tuple(found)

    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The names of the split's list, or all files of its folders."""
        description = _read_description(root)
        require_split(split, root, self.splits(root))
        images, masks = root / description.images, root / description.masks
        if not description.lists:
            return pair_files(images / split, masks / split, split=split)
        names = read_list(root / description.lists[split], split)
        return pair_files(images, masks, names, split=split)


@dataclass(frozen=True)
class _Description:
    values: dict[str, int]
    colors: tuple[Color, ...]
    ignored: tuple[int, ...]
    images: str
    masks: str
    lists: dict[str, str]


def _read_description(root: Path) -> _Description:
    path = root / DESCRIPTION
    try:
        content: Any = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "classes" not in content:
        raise InputError(f"{path} has to say at least classes: [NAME, NAME, ...]")

    def demand(holds: bool, otherwise: str) -> None:
        if not holds:
            raise InputError(f"{path}: {otherwise}")

    unknown = [str(name) for name in content if name not in _FIELDS]
    demand(not unknown, f"unknown {', '.join(unknown)}; there are {', '.join(_FIELDS)}")

    values = _class_values(content["classes"], demand)
    colors = content.get("colors") or {}
    demand(
        isinstance(colors, dict)
        and all(name in values and _is_color(color) for name, color in colors.items()),
        "colors has to be a table from class to [red, green, blue], 0-255, and is "
        f"{colors!r}; there are the classes {', '.join(map(str, values))}",
    )
    ignore = content.get("ignore", [] if IGNORE in values.values() else [IGNORE])
    ignored = tuple(ignore) if isinstance(ignore, list) else (ignore,)
    demand(
        all(map(_is_value, ignored)) and not {*ignored} & {*values.values()},
        f"ignore is {ignore!r}; it has to be mask values (0-65535) that no class has, and those of "
        f"the classes are {', '.join(map(str, values.values()))}",
    )
    images, masks = content.get("images", "images"), content.get("masks", "masks")
    for field, folder in {"images": images, "masks": masks}.items():
        given = isinstance(folder, str) and folder != ""
        demand(given, f"{field} is {folder!r}; expected the name of a folder")
    lists = content.get("splits") or {}
    demand(
        isinstance(lists, dict) and all(isinstance(name, str) for name in lists.values()),
        "splits has to be a table from split to the file with its names",
    )
    drawn = (colors.get(name) or voc_color(index) for index, name in enumerate(values))
    palette = tuple((r, g, b) for r, g, b in drawn)
    lists = {str(split): name for split, name in lists.items()}
    return _Description(values, palette, ignored, images, masks, lists)


def _class_values(classes: Any, demand: Callable[[bool, str], None]) -> dict[str, int]:
    """Name → mask value, from a list of names or such a table."""
    if isinstance(classes, list):
        names, values = classes, [*range(len(classes))]
    else:
        table = classes if isinstance(classes, dict) else {}
        names, values = [*table], [*table.values()]
    # YAML 1.1 reads a bare yes, no, on or off as a truth value, and a bare null as nothing.
    demand(
        1 <= len(names) <= 254
        and all(isinstance(name, str | int | float) for name in names)
        and not any(isinstance(name, bool) for name in names)
        and all(map(_is_value, values)),
        "classes has to be a list of 1 to 254 names, or a table from name to mask value "
        "(0-65535); quote names such as 'no'",
    )
    found = dict(zip(map(str, names), values, strict=True))
    demand(len(found) == len(names), "classes names one twice")
    demand(len({*values}) == len(names), "two classes have the same mask value")
    return found


def _is_value(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16


def _is_color(color: object) -> bool:
    if not isinstance(color, list) or len(color) != 3:
        return False
    return all(_is_value(part) and part < 256 for part in color)

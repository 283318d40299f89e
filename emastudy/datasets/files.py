"""Datasets that lie in files: pairs of an image and a mask, read and validated in one place.

Floor: datasets.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image as PILImage
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets.base import IGNORE, SegmentationDataset
from emastudy.datasets.download import Archive

#: Endings of the files that count as images or masks; anything else in a folder is passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
#: Mark of stored values that mean nothing in a dataset; no dataset has that many classes.
_FOREIGN = 254


@dataclass(frozen=True)
class Pair:
    """One item of a split: its files, which need not be there yet."""

    name: str
    image: Path
    #: None where the split has no masks (a test set whose annotation is kept secret).
    mask: Path | None


class FileDataset(SegmentationDataset):
    """Image/mask file pairs with a table from stored values to class indices.

    A subclass states its classes, colours and stored values and says where a root keeps its files
    (:meth:`locate`) and which pairs make up a split (:meth:`list_pairs`); reading, renumbering and
    every check of a single item are done here. A pair without a mask file (a test set whose
    annotation is kept secret) gives a mask in which every pixel is ignored: it can be predicted,
    but neither trained on nor scored.

    Args:
        root: Where the dataset lies.
        split: One of the dataset's splits.
        classes: Names of the classes to keep, in the order of their new indices; pixels of all
            others count as ignored. None keeps those of the benchmark.
        complete: Whether files that the split names must all be there at once; False leaves
            missing ones to be found when they are read, as the check of a whole root does.

    Attributes:
        all_classes: Every class a mask can show, in the order of the benchmark.
        colors: One RGB triple (0-255) per class of ``all_classes``.
        stored: Value in the mask files → index in ``all_classes``, or 255 for ignored pixels.
            Any other value is an error.
        counts: Split → number of images of the official release.
        optional: Splits that a root may lack.
        layout: Where a root keeps what.
        archives: What :func:`~emastudy.datasets.download.download` fetches.
        by_hand: What a person has to fetch, from where, and where it belongs.
        pairs: The split's files, in the order of the items.

    Raises:
        FileNotFoundError: ``root`` has not this layout, or files named by the split are missing.
        ValueError: Unknown class or split, empty split; on reading, a damaged image, a mask that
            holds other values or has another size than its image.
    """

    all_classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    stored: Mapping[int, int]
    counts: ClassVar[Mapping[str, int]]
    optional: ClassVar[frozenset[str]] = frozenset()
    layout: ClassVar[str]
    archives: ClassVar[tuple[Archive, ...]] = ()
    by_hand: ClassVar[str] = ""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        complete: bool = True,
    ) -> None:
        chosen = tuple(classes) if classes is not None else self.all_classes
        unknown = [name for name in chosen if name not in self.all_classes]
        if unknown:
            raise ValueError(
                f"classes: {self.name} has no {', '.join(map(repr, unknown))}; it has "
                + ", ".join(self.all_classes)
            )
        self.classes = chosen
        self._lookup = np.full(max(self.stored) + 2, _FOREIGN, dtype=np.uint8)
        for value, index in self.stored.items():
            kept = index != IGNORE and self.all_classes[index] in chosen
            self._lookup[value] = chosen.index(self.all_classes[index]) if kept else IGNORE

        self.root = self.locate(Path(root))
        self.split = split
        self.pairs = self.list_pairs(self.root, split)
        if complete:
            self._require_files()

    @classmethod
    @abstractmethod
    def locate(cls, root: Path) -> Path:
        """The folder with the files: ``root`` itself or one inside it.

        Raises:
            FileNotFoundError: There is no such dataset in ``root``.
        """

    @classmethod
    def splits(cls, root: Path) -> tuple[str, ...]:
        """The splits that a root (what :meth:`locate` found) may have."""
        return tuple(cls.counts)

    @abstractmethod
    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The files of a split in their fixed order, whether they exist or not.

        Args:
            root: What :meth:`locate` found.
            split: Name of the split.

        Raises:
            FileNotFoundError: The split's list or folder is missing.
            ValueError: The split is empty or unknown.
        """

    def read_values(self, mask: Path) -> np.ndarray:
        """A mask file as (H, W) unsigned integers, the values as stored."""
        return read_mask(mask)

    @classmethod
    def palette(cls, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        """The benchmark's own colours."""
        return [cls.colors[cls.all_classes.index(name)] for name in classes]

    @property
    def names(self) -> list[str]:
        """The items' names, which official lists and submissions use."""
        return [pair.name for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        pair = self.pairs[index]
        image = read_image(pair.image)
        if pair.mask is None:
            return image, Mask(torch.full(image.shape[1:], IGNORE, dtype=torch.uint8))
        mask = self.read_classes(pair.mask)
        require_same_size(pair, image, mask)
        return image, mask

    def read_classes(self, path: Path) -> Mask:
        """A mask file as (H, W) uint8 indices into ``classes``, 255 = ignored.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, no mask, or holds values that the dataset does not have.
        """
        values = self.read_values(path)
        # Values beyond the table meet its last entry, which is foreign.
        mask = torch.from_numpy(self._lookup.take(values, mode="clip"))
        if (mask == _FOREIGN).any():
            foreign = np.unique(values[mask.numpy() == _FOREIGN]).tolist()
            raise ValueError(
                f"{path} holds values that are no {self.name} class "
                f"({', '.join(map(str, foreign[:5]))}{', …' * (len(foreign) > 5)}); "
                "is it a mask of another dataset?"
            )
        return Mask(mask)

    def _require_files(self) -> None:
        for paths in (
            [pair.image for pair in self.pairs],
            [pair.mask for pair in self.pairs if pair.mask is not None],
        ):
            missing = missing_files(paths)
            if missing:
                raise FileNotFoundError(
                    f"{missing[0].parent} lacks {len(missing)} of the {len(paths)} files that "
                    f"split {self.split!r} names, {missing[0].name} the first; unpack the dataset "
                    "again or mend the list"
                )


def require_same_size(pair: Pair, image: torch.Tensor, mask: torch.Tensor) -> None:
    """Check that a mask covers its image.

    Args:
        pair: For the message.
        image: (3, H, W).
        mask: (H, W).

    Raises:
        ValueError: The sizes differ.
    """
    if mask.shape != image.shape[1:]:
        raise ValueError(
            f"{pair.mask} is {mask.shape[1]}×{mask.shape[0]} pixels but {pair.image} is "
            f"{image.shape[2]}×{image.shape[1]}; they must agree"
        )


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those that do not exist; one listing per folder instead of one look per file."""
    present = {
        folder: {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for folder in {path.parent for path in paths}
    }
    return [path for path in paths if path.name not in present[path.parent]]


def require_folder(root: Path, what: str) -> None:
    """Check that a data root is a folder.

    Raises:
        FileNotFoundError: It does not exist, or is a file.
    """
    if not root.is_dir():
        state = "is a file, not a folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"data root {root} {state}; give the folder that holds {what}")


def read_list(path: Path, split: str) -> list[str]:
    """The lines of a split's list of names, blank ones left out.

    Raises:
        FileNotFoundError: There is no such list; the message names those beside it.
        ValueError: It is empty.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"split {split!r}: there is no {path}; lists there: {there}")
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not names:
        raise ValueError(f"split {split!r}: {path} names no image")
    return names


def pair_files(
    images: Path, masks: Path, names: Sequence[str] | None = None, *, split: str
) -> list[Pair]:
    """Pairs of the files of equal name, whatever their endings, in two folders.

    Args:
        images: Folder of the photographs.
        masks: Folder of the masks.
        names: Which ones, in their order; None takes every name of either folder, sorted.
        split: For messages.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: Two files of one folder have the same name, or there is no file at all.
    """
    there: list[dict[str, Path]] = []
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"split {split!r}: there is no folder {folder}")
        files: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                name = path.relative_to(folder).with_suffix("").as_posix()
                if name in files:
                    raise ValueError(f"{files[name]} and {path} have the same name: keep one")
                files[name] = path
        there.append(files)
    chosen = sorted({*there[0], *there[1]}) if names is None else names
    if not chosen:
        raise ValueError(f"split {split!r}: {images} holds no image")
    return [
        Pair(
            name,
            there[0].get(name, images / f"{name}.jpg"),
            there[1].get(name, masks / f"{name}.png"),
        )
        for name in chosen
    ]


def read_image(path: Path) -> Image:
    """An image file as (3, H, W) uint8 RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or no image.
    """
    with _opened(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return Image(pixels.permute(2, 0, 1).contiguous())


def read_mask(path: Path) -> np.ndarray:
    """A mask picture as (H, W) class indices, uint8 or uint16.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or a colour image.
    """
    with _opened(path) as image:
        if image.mode not in ("P", "L", "I;16"):
            raise ValueError(
                f"{path} is a {image.mode} image; expected one class index per pixel (palette "
                "or greyscale PNG). Was it saved by a tool that turned indices into colours?"
            )
        return np.array(image)


def read_mat(path: Path, *fields: str) -> np.ndarray:
    """A label map out of a MATLAB file (up to version 7.2) as (H, W) int64.

    Args:
        path: The file.
        fields: Name of the variable, then of the fields inside it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, lacks the variable, or holds something else than whole
            numbers from 0 up.
    """
    from scipy.io import loadmat  # slow to import, and only these datasets need it

    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    try:
        value = loadmat(path, appendmat=False, variable_names=fields[:1])[fields[0]]
        for field in fields[1:]:
            value = value[field][0, 0]
        values = np.asarray(value).astype(np.int64)
    # What scipy raises on damaged files is not documented: zlib.error, TypeError, KeyError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a MATLAB label map {'.'.join(fields)} "
            f"({type(error).__name__}: {error}); it may be truncated: fetch it again"
        ) from error
    if values.ndim != 2 or values.min(initial=0) < 0 or (values != value).any():
        raise ValueError(f"{path}: {'.'.join(fields)} is no matrix of whole numbers from 0 up")
    return values


@contextmanager
def _opened(path: Path) -> Iterator[PILImage.Image]:
    """An open image file, whose damage is a ValueError that names it."""
    try:
        with PILImage.open(path) as image:
            yield image
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); it may be truncated: fetch it again"
        ) from error

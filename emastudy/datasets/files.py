"""Datasets that lie in files: pairs of an image and a mask, read and validated in one place."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from emastudy.datasets.base import IGNORE, Color, SegmentationDataset, as_mask
from emastudy.datasets.download import Archive
from emastudy.datasets.fingerprint import Fingerprint, digest, evenly_spaced
from emastudy.datasets.images import orientation, read_image, read_mask
from emastudy.datasets.lists import Listed, Pair, missing_files, require_folder
from emastudy.errors import InputError, MissingFileError, require

#: Mark of stored values that mean nothing in a dataset; no dataset has that many classes.
_FOREIGN = 254
# How many masks, and images of how many bytes together, are read for a fingerprint.
_MANY, _SMALL = 20_000, 2**28


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

    Raises:
        FileNotFoundError: ``root`` does not have this layout, or files named by the split
            are missing.
        ValueError: Unknown class or split, empty split, a name listed twice; on reading, a damaged
            image, a mask that holds other values or has another size than its image.
    """

    all_classes: tuple[str, ...]  #: Every class a mask can show, in the order of the benchmark.
    colors: tuple[Color, ...]  #: One RGB triple (0-255) per class of ``all_classes``.
    #: Value in the mask files → index in ``all_classes``, or 255 for ignored pixels. Any other
    #: value is an error.
    stored: Mapping[int, int]
    counts: ClassVar[Mapping[str, int]]  #: Split → number of images of the official release.
    optional: ClassVar[frozenset[str]] = frozenset()  #: Splits that a root may lack.
    layout: ClassVar[str]  #: Where a root keeps what.
    called: ClassVar[str]  #: What messages call the dataset.
    inside: ClassVar[tuple[str, ...]]  #: Folders that may hold it instead of the root itself.
    marks: ClassVar[tuple[str, ...]]  #: Folders of which it has at least one.
    archives: ClassVar[tuple[Archive, ...]] = ()  #: What :func:`download` fetches.
    by_hand: ClassVar[str] = ""  #: What a person has to fetch, from where, and where it belongs.
    pairs: list[Pair]  #: The split's files, in the order of the items.

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        complete: bool = True,
    ) -> None:
        chosen = tuple(classes) if classes is not None else self.all_classes
        listed = not isinstance(classes, str) and 0 < len(chosen) == len(set(chosen))
        require(listed, "classes", classes, "a list of names, each once")
        unknown = ", ".join(repr(name) for name in chosen if name not in self.all_classes)
        if unknown:
            there = ", ".join(self.all_classes)
            raise InputError(f"classes: {self.name} has no {unknown}; it has {there}")
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
    def locate(cls, root: Path) -> Path:
        """The folder with the files: ``root`` or one ``inside`` it, the first to have a mark.

        Raises:
            FileNotFoundError: There is no such dataset in ``root``; the message has the layout.
        """
        require_folder(root, cls.called)
        for folder in (root, *(root / name for name in cls.inside)):
            if any((folder / mark).is_dir() for mark in cls.marks):
                return folder
        mark = cls.marks[0]
        raise MissingFileError(
            f"data root {root} holds no {cls.called}: neither {mark}/ nor {cls.inside[0]}/{mark}/ "
            f"is in it. Expected {cls.layout}"
        )

    @classmethod
    def splits(cls, root: Path) -> tuple[str, ...]:
        """The splits that a root (what :meth:`locate` found) may have."""
        return tuple(cls.counts)

    @abstractmethod
    def list_pairs(self, root: Path, split: str) -> list[Pair]:
        """The files of a split in their fixed order, whether they exist or not.

        Raises:
            FileNotFoundError: The split's list or folder is missing.
            ValueError: The split is empty or unknown.
        """

    def read_values(self, mask: Path) -> np.ndarray:
        """A mask file as (H, W) unsigned integers, the values as stored."""
        return read_mask(mask)

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """The benchmark's own colours."""
        return [cls.colors[cls.all_classes.index(name)] for name in classes]

    @functools.cached_property
    def palette(self) -> list[Color]:
        """The benchmark's own colours, or those that this root or its options give."""
        return [self.colors[self.all_classes.index(name)] for name in self.classes]

    @property
    def ignored(self) -> tuple[int, ...]:
        """Mask values that belong to no class of the dataset, in ascending order."""
        return tuple(sorted(value for value, index in self.stored.items() if index == IGNORE))

    @property
    def names(self) -> list[str]:
        """The items' names, which official lists and submissions use."""
        return [pair.name for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pair = self.pairs[index]
        image = read_image(pair.image)
        if pair.mask is None:
            return image, as_mask(torch.full(image.shape[1:], IGNORE, dtype=torch.uint8))
        mask = self.to_classes(self.read_values(pair.mask), pair.mask)
        require_same_size(pair, image, mask)
        return image, mask

    def to_classes(self, values: np.ndarray, path: Path) -> torch.Tensor:
        """Stored values (H, W) as uint8 indices into ``classes``, 255 = ignored.

        Raises:
            ValueError: There are values that the dataset does not have.
        """
        # Values beyond the table meet its last entry, which is foreign.
        mask = torch.from_numpy(self._lookup.take(values, mode="clip"))
        if (mask == _FOREIGN).any():
            foreign = np.unique(values[mask.numpy() == _FOREIGN]).tolist()
            raise InputError(
                f"{path} holds values that are no {self.name} class "
                f"({', '.join(map(str, foreign[:5]))}{', …' * (len(foreign) > 5)}); "
                f"known are {_ranges(self.stored)}. Is it a mask of another dataset, or one that "
                "was resized or saved with loss?"
            )
        return as_mask(mask)

    def fingerprint(self) -> Fingerprint:
        """Names and sizes of all files and the bytes of most; nothing is decoded.

        The bytes are those of 20,000 masks, evenly spaced (a small one takes some 50 µs), which is
        all of most datasets; and of all images, if they have 256 MB or less. A larger photograph
        that changes without changing its size is noticed among the samples only.
        """
        files = {pair: [p for p in (pair.image, pair.mask) if p is not None] for pair in self.pairs}
        sizes = {path: path.stat().st_size for pair in self.pairs for path in files[pair]}
        small = sum(sizes[pair.image] for pair in self.pairs) <= _SMALL
        some = [self.pairs[index] for index in evenly_spaced(len(self), _MANY)]
        meaning = {value: int(index) for value, index in enumerate(self._lookup[:-1])}
        return Fingerprint(
            self.name,
            self.split,
            len(self),
            self.classes,
            self.ignored,
            labels=digest(meaning.items()),
            names=digest(map(str, self.names)),
            content=digest(sizes[path] for pair in self.pairs for path in files[pair]),
            samples=tuple(
                (str(pair.name), digest(path.read_bytes() for path in files[pair]))
                for pair in (self.pairs[index] for index in evenly_spaced(len(self), 8))
            ),
            files=digest(
                hashlib.sha256(path.read_bytes()).hexdigest()
                for paths in ([p.mask for p in some], [p.image for p in self.pairs if small])
                for path in paths
                if path is not None
            ),
        )

    def _require_files(self) -> None:
        fix = (
            "a listed line is one name without columns: fix the list, or unpack the dataset again"
            if any(isinstance(name, Listed) for name in self.names)
            else "every image needs a mask of its name, and every mask an image"
        )
        first: dict[str, Pair] = {}
        for pair in self.pairs:
            if pair.name in first:
                raise InputError(
                    f"split {self.split!r} names {pair.name} more than once{pair.where}, first"
                    f"{first[pair.name].where}: it would count more than once; keep one"
                )
            first[pair.name] = pair
        for kind in ("image", "mask"):
            paths = {getattr(pair, kind): pair for pair in self.pairs if getattr(pair, kind)}
            missing = missing_files(list(paths))
            if missing:
                raise MissingFileError(
                    f"{missing[0].parent} lacks {len(missing)} of the {len(paths)} files that "
                    f"split {self.split!r} names, {missing[0].name} the first"
                    f"{paths[missing[0]].where}; {fix}"
                )


def require_same_size(pair: Pair, image: torch.Tensor, mask: torch.Tensor) -> None:
    """Check that a mask covers its image."""
    if mask.shape != image.shape[1:]:
        turned = orientation(pair.image)
        raise InputError(
            f"{pair.mask} is {mask.shape[1]}×{mask.shape[0]} pixels but {pair.image} is "
            f"{image.shape[2]}×{image.shape[1]}; they must agree"
            + f". The photograph is turned upright by its EXIF orientation, {turned}, which the "
            "tool that made the mask may have passed over: turn the mask likewise" * (turned > 1)
        )


def _ranges(values: Iterable[int]) -> str:
    """Whole numbers as text: 0-20, 255."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}-{high}" if low < high else f"{low}" for low, high in runs)


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
        raise MissingFileError(f"there is no {path}")
    try:
        value = loadmat(path, appendmat=False, variable_names=fields[:1])[fields[0]]
        for field in fields[1:]:
            value = value[field][0, 0]
        values = np.asarray(value).astype(np.int64)
    # What scipy raises on damaged files is not documented: zlib.error, TypeError, KeyError, ...
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as a MATLAB label map {'.'.join(fields)} "
            f"({type(error).__name__}: {error}); it may be truncated: fetch it again"
        ) from error
    if values.ndim != 2 or values.min(initial=0) < 0 or (values != value).any():
        raise InputError(f"{path}: {'.'.join(fields)} is no matrix of whole numbers from 0 up")
    return values

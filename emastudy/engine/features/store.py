"""Feature maps on disk: the files, their reader and their writer.

One folder holds one feature map (one stage of the backbone) of one split::

    features.bin    all images' feature maps, one after another, (views, h, w, channels) each
    masks.bin       their masks, uint8, (H, W) each
    index.txt       one line an image: views h w channels H W
    manifest.json   what was computed, and the element type of features.bin

An image counts once its line is in the index, so an interrupted writer goes on from there.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from emastudy.errors import InputError


class CachedFeatures(Dataset[tuple[list[Tensor], Tensor]]):
    """Feature maps and masks of a split, read from files that are mapped into memory.

    Entry i is (maps, mask): one tensor (views, channels, h, w) per feature map that the head
    reads, channels last in memory, views being the image alone or the image and its mirror image;
    and the (unmirrored) mask (H, W), int64.

    Args:
        indices: Which of the images; None = all.

    Raises:
        InputError: A file is damaged.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        classes: tuple[str, ...],
        indices: Sequence[int] | None = None,
    ) -> None:
        self.classes = classes
        self._readers = [_Reader(folder) for folder in folders]
        self._indices = range(len(self._readers[0].shapes)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        entries = [reader[self._indices[index]] for reader in self._readers]
        return [maps for maps, _ in entries], entries[0][1].long()


class _Reader:
    """Reads one folder. Its files are mapped when first read, so that it pickles small."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.dtype: torch.dtype = getattr(torch, manifest["dtype"])
        self.shapes = _read_index(folder)
        self._starts = [(0, 0)]
        for shape in self.shapes:
            features, masks = self._starts[-1]
            self._starts.append((features + math.prod(shape[:4]), masks + math.prod(shape[4:])))
        features, masks = self._starts[-1]
        for name, right in (("features", features * self.dtype.itemsize), ("masks", masks)):
            size = (folder / f"{name}.bin").stat().st_size
            if size != right:
                raise InputError(
                    f"{folder / name}.bin has {size} bytes instead of {right}: it is damaged; "
                    f"delete {folder} and it is built again"
                )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        views, h, w, channels, *size = self.shapes[index]
        (begin, begin_mask), (end, end_mask) = self._starts[index : index + 2]
        features, masks = self._files
        maps = features[begin:end].view(views, h, w, channels).permute(0, 3, 1, 2)
        return maps, masks[begin_mask:end_mask].view(size)

    @cached_property
    def _files(self) -> tuple[Tensor, Tensor]:
        paths = [str(self.folder / name) for name in ("features.bin", "masks.bin")]
        features, masks = self._starts[-1]
        return (
            torch.from_file(paths[0], size=features, dtype=self.dtype),
            torch.from_file(paths[1], size=masks, dtype=torch.uint8),
        )


class Writer:
    """Writes one folder, image by image, from where an interrupted writer of it had got to.

    Args:
        description: What is computed, with the element type of the feature maps as "dtype".
    """

    chunk = 64  #: Images between two points from which an interrupted writer goes on.

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        manifest = json.dumps(description, indent=1, sort_keys=True)
        (folder / "manifest.json").write_text(manifest, encoding="utf-8")
        shapes = _read_index(folder)
        self.done = len(shapes)  #: How many images the folder held already.
        #: Height and width of the first one's mask; () = it held none.
        self.first = tuple(shapes[0][4:]) if shapes else ()
        self.dtype: torch.dtype = getattr(torch, description["dtype"])
        # What was written after the last line of the index does not count.
        sizes = {
            "features.bin": sum(math.prod(s[:4]) for s in shapes) * self.dtype.itemsize,
            "masks.bin": sum(math.prod(s[4:]) for s in shapes),
            "index.txt": sum(len(_line(s)) for s in shapes),
        }
        self._stack = ExitStack()
        self._files = [self._stack.enter_context((folder / name).open("ab")) for name in sizes]
        for file, size in zip(self._files, sizes.values(), strict=True):
            file.truncate(size)
        self._lines: list[str] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._flush()

    def append(self, maps: Tensor, mask: Tensor) -> None:
        """Add an image: its feature map (views, channels, h, w) and its mask (H, W), uint8."""
        maps = maps.to("cpu", self.dtype).permute(0, 2, 3, 1).contiguous()
        self._files[0].write(maps.view(torch.uint8).numpy().data)
        self._files[1].write(mask.contiguous().numpy().data)
        self._lines.append(_line((*maps.shape, *mask.shape)))
        if len(self._lines) == self.chunk:
            self._flush()

    def _flush(self) -> None:
        """Flush features and masks to disk, then the lines by which they count."""
        for file, text in zip(self._files, ("", "", "".join(self._lines)), strict=True):
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self._lines = []


def _line(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape)) + "\n"


def _read_index(folder: Path) -> list[tuple[int, ...]]:
    """(views, h, w, channels, H, W) of each image; a line that was cut short does not count."""
    path = folder / "index.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]

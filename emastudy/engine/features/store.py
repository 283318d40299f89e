"""Feature maps on disk.

One folder holds one feature map (one stage of the backbone) of one split: ``manifest.json``, what
was computed, and a file an image, ``000000.safetensors`` and so on, with its "maps", (views, h, w,
channels), and its "mask", uint8 (H, W). A file is whole or it is not there, so an interrupted
writer goes on from as many as are there.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from emastudy.errors import InputError
from emastudy.files import written_whole


class CachedFeatures(Dataset[tuple[list[Tensor], Tensor]]):
    """Feature maps and masks of a split, read image by image.

    Entry i is (maps, mask): one tensor (views, channels, h, w) per feature map that the head
    reads, channels last in memory, views being the image alone or the image and its mirror image;
    and the (unmirrored) mask (H, W), int64. A damaged file is an ``InputError`` when it is read.

    Args:
        indices: Which of the images; None = all.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        classes: tuple[str, ...],
        indices: Sequence[int] | None = None,
    ) -> None:
        self.classes = classes
        self._folders = list(folders)
        self._indices = range(written(self._folders[0])) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        entries = [read(folder, self._indices[index]) for folder in self._folders]
        return [maps for maps, _ in entries], entries[0][1].long()


def written(folder: Path) -> int:
    """How many images a folder holds."""
    return sum(1 for _ in folder.glob("*.safetensors"))


def write(folder: Path, index: int, maps: Tensor, mask: Tensor, dtype: torch.dtype) -> None:
    """Write an image: its feature map (views, channels, h, w) and its mask (H, W), uint8."""
    maps = maps.to("cpu", dtype).permute(0, 2, 3, 1).contiguous()
    with written_whole(_path(folder, index)) as path:
        save_file({"maps": maps, "mask": mask.contiguous()}, path)


def read(folder: Path, index: int) -> tuple[Tensor, Tensor]:
    """The feature map (views, channels, h, w) and the mask (H, W), uint8, of an image.

    Raises:
        InputError: Its file is damaged, or gone.
    """
    try:
        entry = load_file(_path(folder, index))
        # Where in a file it lies is not a multiple of 64 bytes, which some float32 kernels need to
        # take the same path, bit for bit, as for the backbone's own maps.
        return entry["maps"].clone().permute(0, 3, 1, 2), entry["mask"]
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(
            f"{_path(folder, index)} is damaged ({error}); delete {folder} and it is built again"
        ) from error


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.safetensors"

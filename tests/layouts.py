"""Tiny datasets in their official layouts, written by the tests themselves."""

import numpy as np
from conftest import save_mask
from PIL import Image


def photograph(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def blocks(values, height, width):
    """A mask that shows every value in a vertical stripe of its own."""
    return np.asarray(values)[np.arange(width) * len(values) // width][None].repeat(height, axis=0)


def make_camvid(folder):
    """Two frames to train on and one in val and test each; all 11 classes and unlabelled pixels."""
    for split, names in {"train": ["0001TP_1", "0001TP_2"], "val": ["a"], "test": ["b"]}.items():
        (folder / f"{split}annot").mkdir(parents=True)
        for name in names:
            photograph(folder / split / f"{name}.png", 36, 48)
            save_mask(folder / f"{split}annot" / f"{name}.png", blocks(range(12), 36, 48))
        lines = [
            f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png" for n in names
        ]
        (folder / f"{split}.txt").write_text("\n".join(reversed(lines)) + "\n")
    return folder

"""Tiny datasets in their official layouts, written by the tests themselves."""

import numpy as np
import scipy.sparse
from PIL import Image
from scipy.io import savemat


def photograph(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def blocks(values, height, width):
    """A mask that shows every value in a vertical stripe of its own."""
    return np.asarray(values)[np.arange(width) * len(values) // width][None].repeat(height, axis=0)


def save_mask(path, mask):
    """A palette PNG whose indices are the mask's values."""
    picture = Image.new("P", mask.shape[::-1])
    picture.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    picture.frombytes(mask.astype(np.uint8).tobytes())
    picture.save(path)


def make_voc(folder):
    """A VOC of three images of different sizes."""
    lists = folder / "ImageSets" / "Segmentation"
    for sub in (lists, folder / "JPEGImages", folder / "SegmentationClass"):
        sub.mkdir(parents=True)
    (folder / "SegmentationClassAug").mkdir()
    rng = np.random.default_rng(0)
    names = ["2007_000001", "2007_000002", "2008_000003"]
    for name, (height, width) in zip(names, [(40, 60), (50, 37), (64, 64)], strict=True):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = rng.choice(np.array([0, 8, 12, 15, 255], dtype=np.uint8), (height, width))
        for kind in ("SegmentationClass", "SegmentationClassAug"):
            save_mask(folder / kind / f"{name}.png", mask)
    (lists / "train.txt").write_text("\n".join(names[:2]))
    (lists / "trainaug.txt").write_text("\n".join(names[:2]))
    (lists / "val.txt").write_text(names[2] + "\n")
    return folder


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


def make_sbd(folder, train, val):
    """SBD as its archive unpacks: lists, and label maps inside nested MATLAB structs.

    Args:
        folder: Where benchmark_RELEASE is made.
        train: Name → mask.
        val: The same.
    """
    dataset = folder / "benchmark_RELEASE" / "dataset"
    (dataset / "cls").mkdir(parents=True)
    for split, masks in {"train": train, "val": val}.items():
        (dataset / f"{split}.txt").write_text("\n".join(masks) + "\n")
        for name, mask in masks.items():
            boundaries = np.empty((20, 1), dtype=object)
            boundaries[:, 0] = [scipy.sparse.csc_matrix(mask == c) for c in range(1, 21)]
            struct = {"Boundaries": boundaries, "Segmentation": mask.astype(np.uint8)}
            savemat(dataset / "cls" / f"{name}.mat", {"GTcls": struct}, do_compression=True)
    return dataset


def make_context(folder):
    """PASCAL Context unpacked over VOC 2010: two images to train on, one to score."""
    lists = folder / "ImageSets" / "Main"
    for sub in (lists, folder / "trainval"):
        sub.mkdir(parents=True)
    for split, names in {"train": ["2008_000002", "2008_000003"], "val": ["2010_000001"]}.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            photograph(folder / "JPEGImages" / f"{name}.jpg", 30, 40)
            # aeroplane, accordion (one of the other 400), wood, wool (the last), unlabelled
            mask = blocks([2, 1, 458, 459, 0], 30, 40).astype(np.uint16)
            savemat(folder / "trainval" / f"{name}.mat", {"LabelMap": mask}, do_compression=True)
    return folder


def make_coco_stuff(folder):
    """COCO-Stuff 10k v1.1, whose label maps are stored as double."""
    for sub in ("annotations", "imageLists"):
        (folder / sub).mkdir(parents=True)
    names = {"train": ["COCO_train2014_000000000077"], "test": ["COCO_train2014_000000000081"]}
    for split, there in names.items():
        (folder / "imageLists" / f"{split}.txt").write_text("\n".join(there) + "\n")
        for name in there:
            photograph(folder / "images" / f"{name}.jpg", 30, 40)
            mask = blocks([0, 1, 13, 92, 182], 30, 40).astype(float)
            content = {"S": mask, "captions": np.array(["a cat", "a dog"], dtype=object)}
            savemat(folder / "annotations" / f"{name}.mat", content)
    return folder


def make_coco_stuff_164k(folder):
    """COCO 2017 with greyscale pixel maps."""
    for split, name in {"train2017": "000000000009", "val2017": "000000000139"}.items():
        photograph(folder / "images" / split / f"{name}.jpg", 30, 40)
        (folder / "annotations" / split).mkdir(parents=True)
        mask = blocks([0, 4, 12, 91, 181, 255], 30, 40).astype(np.uint8)
        Image.fromarray(mask).save(folder / "annotations" / split / f"{name}.png")
    return folder


def make_folder(folder, description="classes: [sound, crack]\n"):
    """Somebody's own data: folders for train and val, a description."""
    for split, names in {"train": ["a", "b"], "val": ["c"]}.items():
        (folder / "masks" / split).mkdir(parents=True)
        for name in names:
            photograph(folder / "images" / split / f"{name}.jpg", 20, 30)
            save_mask(folder / "masks" / split / f"{name}.png", blocks([0, 1, 255], 20, 30))
    (folder / "dataset.yaml").write_text(description)
    return folder

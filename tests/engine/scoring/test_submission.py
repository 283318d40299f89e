"""Files for the VOC server."""

import io
import logging
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from emastudy.datasets import Scenes, load
from emastudy.datasets.base import voc_color
from emastudy.datasets.voc import VOC_CLASSES
from emastudy.engine.scoring.submission import VOCSubmission
from emastudy.errors import InputError

INSIDE = "results/VOC2012/Segmentation/comp6_train_cls"


def maps(dataset, seed=0):
    rng = np.random.default_rng(seed)
    for index, (image, _) in enumerate(dataset):
        size = tuple(image.shape[1:])
        yield index, torch.from_numpy(rng.integers(0, len(dataset.classes), size))


def written(dataset, folder):
    submission = VOCSubmission(dataset, folder)
    for index, classes in maps(dataset):
        submission(index, classes)
    return submission


@pytest.fixture
def dataset(voc_root):
    return load("voc2012", "train", root=voc_root)


def test_the_archive_holds_what_was_predicted(dataset, tmp_path):
    archive = written(dataset, tmp_path / "out").finish()
    assert archive == tmp_path / "out" / "comp6_train_cls.tar"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"{INSIDE}/2007_00000{n}.png" for n in (1, 2)]
        for (_, classes), member in zip(maps(dataset), tar, strict=True):
            with Image.open(io.BytesIO(tar.extractfile(member).read())) as picture:
                assert picture.mode == "P"
                np.testing.assert_array_equal(np.array(picture), classes)
                colors = np.array(picture.convert("RGB"))
            table = np.array([voc_color(c) for c in range(21)])
            np.testing.assert_array_equal(colors, table[classes.numpy()])
    again = written(dataset, tmp_path / "again").finish()
    assert again.read_bytes() == archive.read_bytes()


def test_a_subset_of_classes_is_mapped_back_by_name(voc_root, tmp_path, caplog):
    dataset = load("voc2012", "train", root=voc_root, classes=["person", "background", "dog"])
    with caplog.at_level(logging.WARNING):
        written(dataset, tmp_path).finish()
    assert "does not know aeroplane, " in caplog.text
    for index, classes in maps(dataset):
        with Image.open(tmp_path / INSIDE / f"{dataset.pairs[index].name}.png") as picture:
            seen = np.array(picture)
        for new, old in enumerate([15, 0, 12]):
            assert (seen[classes.numpy() == new] == old).all()
    assert VOC_CLASSES[15] == "person"


def test_other_datasets_have_no_server(tmp_path):
    with pytest.raises(ValueError, match="dataset is 'scenes'; only voc2012"):
        VOCSubmission(Scenes("val", num_images=1), tmp_path)


def test_a_picture_that_is_missing_or_of_another_split_is_named(dataset, tmp_path):
    submission = written(dataset, tmp_path)
    second = tmp_path / INSIDE / "2007_000002.png"
    second.rename(second.with_name("stranger.png"))
    with pytest.raises(InputError, match="'train': 2 are missing or of others, 2007_000002 the"):
        submission.finish()
    assert not (tmp_path / "comp6_train_cls.tar").exists()
    second.with_name("stranger.png").rename(second)
    submission.finish()

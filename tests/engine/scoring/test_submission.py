"""Files for the VOC server: written, validated, and refused where something is wrong."""

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
from emastudy.engine.scoring.submission import SubmissionError, VOCSubmission

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


def test_every_problem_is_named(dataset, tmp_path):
    submission = written(dataset, tmp_path)
    first, second = (tmp_path / INSIDE / f"2007_00000{n}.png" for n in (1, 2))
    whole = first.read_bytes()

    def problem(text):
        with pytest.raises(SubmissionError, match=text):
            submission.finish()

    first.unlink()
    problem(r"2007_000001\.png is missing")
    first.write_bytes(whole[:200])
    problem(r"2007_000001\.png cannot be read")
    Image.new("L", (60, 40)).save(first)
    problem("is PNG in mode L, not PNG in P")
    picture = Image.new("P", (60, 40), 21)
    picture.putpalette([0] * 768)
    picture.save(first)
    problem("has the value 21; expected 0-20")
    first.write_bytes(second.read_bytes())
    problem("is 37×50 pixels, its photograph 60×40")
    second.rename(second.with_name("stranger.png"))
    with pytest.raises(SubmissionError) as error:
        submission.finish()
    for text in ("stranger.png is not in split 'train'", "60×40", "2007_000002.png is missing"):
        assert text in str(error.value)
    (tmp_path / INSIDE / "stranger.png").rename(second)
    first.write_bytes(whole)
    submission.finish()

"""Predictions as pictures."""

import re

import numpy as np
import pytest
import torch
from engine.tiny import TINY, runtime
from layouts import photograph, save_mask
from PIL import ExifTags, Image

from emastudy import datasets, networks
from emastudy.engine import load_network, predict_files, train
from emastudy.engine.runtime import Machine
from emastudy.engine.scoring import pictures
from emastudy.engine.scoring.pictures import class_picture, write_prediction
from emastudy.engine.scoring.predict import predict_probabilities
from emastudy.errors import InputError

COLORS = [(0, 0, 0), (255, 0, 100), (10, 20, 30)]


def test_a_class_picture_holds_indices_and_shows_colours():
    classes = np.array([[0, 2], [1, 1]])
    picture = class_picture(classes, COLORS)
    assert picture.mode == "P"
    assert np.array_equal(np.array(picture), classes)
    assert np.array_equal(np.array(picture.convert("RGB")), np.array(COLORS)[classes])


def test_mask_and_overlay_are_written(tmp_path):
    image = torch.randint(256, (3, 4, 6), dtype=torch.uint8)
    classes = torch.randint(3, (4, 6))
    write_prediction(tmp_path, "a", image, classes, COLORS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_mask.png", "a_overlay.png"]
    with Image.open(tmp_path / "a_overlay.png") as picture:
        seen = np.array(picture).astype(float)
    mean = (image.permute(1, 2, 0).numpy().astype(float) + np.array(COLORS)[classes.numpy()]) / 2
    assert np.abs(seen - mean).max() <= 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a trained network."""
    place = runtime(tmp_path_factory.mktemp("runs"))
    train(TINY, place)
    return place.run_dir(TINY)


def segment(images, run, folder, **options):
    return list(predict_files(images, run, folder, Machine(device="cpu", threads=1), **options))


def test_files_are_predicted_and_their_classes_counted(run, tmp_path):
    photograph(tmp_path / "x.png", 40, 50)
    (seen,) = segment([tmp_path / "x.png"], run, tmp_path / "out")
    assert (seen.path, seen.error) == (tmp_path / "x.png", None)
    assert sum(seen.shares.values()) == pytest.approx(1)
    assert list(seen.shares.values()) == sorted(seen.shares.values(), reverse=True)
    with Image.open(tmp_path / "out" / "x_mask.png") as mask:
        assert mask.size == (50, 40)


def test_what_cannot_be_read_is_named_and_the_others_are_done(run, tmp_path):
    for name in ("a.png", "d.png"):
        photograph(tmp_path / name, 40, 50)
    (tmp_path / "b.png").touch()
    seen = segment([tmp_path / f"{name}.png" for name in "abcd"], run, tmp_path / "out")
    assert [outcome.error is None for outcome in seen] == [True, False, False, True]
    assert "b.png cannot be read as an image: it is empty" in str(seen[1].error)
    assert "there is no " in str(seen[2].error)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_an_image_too_small_for_the_network_is_named_and_the_others_are_done(tmp_path):
    for name, side in (("a", 64), ("b", 9), ("c", 64)):
        photograph(tmp_path / "in" / f"{name}.png", side, side)
    seen = segment([tmp_path / "in"], "animals-ema", tmp_path / "out")
    assert [outcome.error is None for outcome in seen] == [True, False, True]
    assert re.match(r".*in/b.png: the network sees 9×9 pixels .*stride of 32", str(seen[1].error))
    assert len(list((tmp_path / "out").iterdir())) == 4
    with pytest.raises(InputError, match="window is 17; expected at least 32"):
        segment([tmp_path / "in"], "animals-ema", tmp_path / "out", window=17)
    assert segment([tmp_path / "in" / "a.png"], "animals-ema", tmp_path / "out", window=26)


def test_a_lying_photograph_is_predicted_upright(run, tmp_path):
    photograph(tmp_path / "x.png", 40, 50)
    with Image.open(tmp_path / "x.png") as picture:
        exif = picture.getexif()
        exif[ExifTags.Base.Orientation] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    segment([tmp_path / "x.png", tmp_path / "lying.png"], run, tmp_path / "out")
    for kind in ("mask", "overlay"):
        upright, lying = (
            np.array(Image.open(tmp_path / "out" / f"{name}_{kind}.png")) for name in ("x", "lying")
        )
        assert np.array_equal(upright, lying)


def test_large_images_are_seen_through_windows(run, tmp_path, monkeypatch):
    photograph(tmp_path / "x.png", 40, 90)
    sizes = []
    forward = networks.SegmentationNetwork.forward
    monkeypatch.setattr(
        networks.SegmentationNetwork,
        "forward",
        lambda self, image: sizes.append(tuple(image.shape[-2:])) or forward(self, image),
    )
    segment([tmp_path / "x.png"], run, tmp_path / "out", window=33)
    assert set(sizes) == {(33, 33)}
    with Image.open(tmp_path / "out" / "x_mask.png") as mask:
        assert mask.size == (90, 40)


def test_probabilities_are_kept_where_asked(run, tmp_path):
    photograph(tmp_path / "x.png", 40, 50)
    segment([tmp_path / "x.png"], run, tmp_path / "plain")
    segment([tmp_path / "x.png"], run, tmp_path / "out", save_probabilities=True)
    with np.load(tmp_path / "out" / "x_probabilities.npz") as stored:
        assert stored["classes"].tolist() == list(datasets.Scenes("val", num_images=1).classes)
        p = stored["probabilities"]
    assert (p.shape, p.dtype) == ((8, 40, 50), np.float16)
    assert np.abs(p.astype(float).sum(axis=0) - 1).max() < 1e-3
    network, manifest = load_network(run)
    image = datasets.read_image(tmp_path / "x.png")
    expected = predict_probabilities(network, image, datasets.Scenes)
    assert np.abs(p - expected.numpy()).max() < 3e-4
    masks = [np.array(Image.open(tmp_path / folder / "x_mask.png")) for folder in ("plain", "out")]
    assert np.array_equal(*masks)


def test_foreign_probabilities_are_not_overwritten(run, tmp_path):
    photograph(tmp_path / "x.png", 40, 50)
    for _ in range(2):  # its own it may
        segment([tmp_path / "x.png"], run, tmp_path / "out", save_probabilities=True)
    np.savez(tmp_path / "out" / "x_probabilities.npz", weights=np.zeros(3))
    for there in ((tmp_path / "out" / "x_probabilities.npz").read_bytes(), b"precious"):
        (tmp_path / "out" / "x_probabilities.npz").write_bytes(there)
        with pytest.raises(InputError, match=r"overwrite .*x_probabilities.npz, which emastudy"):
            segment([tmp_path / "x.png"], run, tmp_path / "out", save_probabilities=True)
        assert (tmp_path / "out" / "x_probabilities.npz").read_bytes() == there
    segment([tmp_path / "x.png"], run, tmp_path / "out")  # which leaves it alone


def test_nothing_is_overwritten_but_predictions(run, tmp_path):
    """A folder may hold masks that somebody has drawn beside the photographs."""
    photograph(tmp_path / "x.png", 40, 50)
    save_mask(tmp_path / "x_mask.png", np.zeros((40, 50)))
    drawn = (tmp_path / "x_mask.png").read_bytes()
    with pytest.raises(InputError, match=r"overwrite .*x_mask.png, which emastudy predict has not"):
        segment([tmp_path / "x.png"], run, tmp_path)
    assert (tmp_path / "x_mask.png").read_bytes() == drawn
    (tmp_path / "x_mask.png").unlink()
    for _ in range(2):
        segment([tmp_path / "x.png"], run, tmp_path)
    with pytest.raises(InputError, match=r"overwrite .*x_mask.png, which is to be segmented too"):
        segment([tmp_path], run, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_where_memory_does_not_suffice_a_window_is_advised(run, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    photograph(tmp_path / "x.png", 40, 50)
    monkeypatch.setattr(pictures, "predict", fail)
    (seen,) = segment([tmp_path / "x.png"], run, tmp_path / "out")
    assert "x.png does not fit into memory; have it segmented piece by piece" in str(seen.error)
    assert "--window" in str(seen.error)


def test_a_prediction_that_cannot_be_written_stops_no_other_one(run, tmp_path):
    for name in ("a/1", "b/1"):
        photograph(tmp_path / "in" / f"{name}.png", 40, 50)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()  # in the way of a folder
    seen = segment([tmp_path / "in"], run, tmp_path / "out")
    assert "a/1.png: its prediction cannot be written" in str(seen[0].error)
    assert seen[1].error is None


def test_nothing_is_loaded_for_nothing(tmp_path):
    with pytest.raises(InputError, match="images is .*; expected at least one"):
        segment([], "/nowhere", tmp_path)
    with pytest.raises(InputError, match="window is -1"):
        segment([tmp_path / "x.png"], "/nowhere", tmp_path, window=-1)


def test_the_network_that_comes_along_knows_a_cat(tmp_path):
    """scikit-image's photograph of one, whose face fills three quarters of it."""
    skimage_data = pytest.importorskip("skimage.data")
    Image.fromarray(skimage_data.chelsea()).resize((320, 213)).save(tmp_path / "cat.png")
    (seen,) = segment([tmp_path / "cat.png"], "animals-ema", tmp_path / "out")
    assert set(seen.shares) <= set(networks.from_pretrained("animals-ema").classes)
    assert 0.6 < seen.shares["cat"] < 0.95
    saved = tmp_path / "saved"
    network = networks.from_pretrained("animals-ema")
    networks.save_pretrained(network, saved, classes=network.classes)
    (again,) = segment([tmp_path / "cat.png"], saved, tmp_path / "out")  # colours of its own
    assert again.shares == seen.shares
    other = {"mean": (0.9, 0.9, 0.9), "std": (0.1, 0.1, 0.1)}
    networks.save_pretrained(network, saved, classes=network.classes, **other)
    (changed,) = segment([tmp_path / "cat.png"], saved, tmp_path / "out")
    assert changed.shares != seen.shares

"""Trained networks as folders: what is written is what is read, and nothing else is taken."""

import json

import pytest
import torch

from emastudy.datasets import SegmentationDataset
from emastudy.errors import DownloadError, InputError, MissingFileError
from emastudy.networks import SHIPPED, build, from_pretrained, save_pretrained

CLASSES, COLORS = ("ground", "cat"), ((0, 0, 0), (200, 30, 10))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = build(
        "ema", backbone="small_resnet", num_classes=2, output_stride=4, bn_momentum=0.03,
        channels=16, num_bases=4, gradient="unrolled",
    )  # fmt: skip
    made.train()(torch.rand(2, 3, 33, 33))  # bases and statistics move
    return made.eval()


def test_a_network_comes_back_as_it_was(network, tmp_path):
    save_pretrained(network, tmp_path / "x", classes=CLASSES, colors=COLORS, card="# Cats\n")
    read = from_pretrained(tmp_path / "x")
    image = torch.rand(1, 3, 40, 50)
    assert torch.equal(read(image), network(image))
    assert (read.classes, read.colors, read.training) == (CLASSES, COLORS, False)
    assert read.architecture == network.architecture
    assert (read.mean, read.std) == (SegmentationDataset.mean, SegmentationDataset.std)
    save_pretrained(network, tmp_path / "y", classes=CLASSES, mean=(0.5,) * 3, std=(0.2,) * 3)
    read = from_pretrained(tmp_path / "y")
    assert (read.mean, read.std) == ((0.5,) * 3, (0.2,) * 3)
    assert {p.name for p in (tmp_path / "x").iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip


def test_half_the_size_changes_logits_by_rounding_alone(network, tmp_path):
    for half in (False, True):
        save_pretrained(network, tmp_path / str(half), classes=CLASSES, half=half)
    whole, half = ((tmp_path / str(h) / "model.safetensors").stat().st_size for h in (False, True))
    assert half < 0.6 * whole
    read, image = from_pretrained(tmp_path / "True"), torch.rand(1, 3, 40, 50)
    assert {p.dtype for p in read.parameters()} == {torch.float32}
    assert (read(image) - network(image)).abs().max() < 0.01 * network(image).abs().max()


def test_an_exchanged_layer_is_refused_before_anything_is_written(network, tmp_path):
    """Else the folder says a number of classes that its weights do not have."""
    classifier = network.head.classifier
    classifier[-1] = torch.nn.Conv2d(classifier[-1].in_channels, 3, 1)
    words = r"head\.classifier\.1\.weight is \(3, 16, 1, 1\), not \(2, .*build .* num_classes"
    with pytest.raises(InputError, match=words):
        save_pretrained(network, tmp_path / "x", classes=("ground", "cat", "dog"))
    assert not (tmp_path / "x").exists()
    network.head.classifier = torch.nn.Identity()
    with pytest.raises(InputError, match="weight is absent, not"):
        save_pretrained(network, tmp_path / "x", classes=CLASSES)


def test_what_is_no_network_is_named(network, tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match="no trained network 'cats'"):
        from_pretrained("cats")
    with pytest.raises(InputError, match="holds no network of save_pretrained"):
        from_pretrained(tmp_path)
    with pytest.raises(InputError, match="3 classes, a, b, c, and 2 logits"):
        save_pretrained(network, tmp_path, classes="abc")
    save_pretrained(network, tmp_path, classes=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"]["num_bases"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="altered"):
        from_pretrained(tmp_path)
    save_pretrained(network, tmp_path, classes=CLASSES)
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**whole, "classes": None}))
    with pytest.raises(InputError, match="altered"):
        from_pretrained(tmp_path)
    save_pretrained(network, tmp_path, classes=CLASSES)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InputError, match="altered"):
        from_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"'someone/cats' is no folder(.|\n)*by hand"):
        from_pretrained("someone/cats")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_network_that_comes_with_the_package_loads(name):
    network = from_pretrained(name)
    assert len(network.classes) == len(network.colors) == network.architecture["num_classes"]
    assert "not be used" in (SHIPPED[name] / "README.md").read_text()
    assert sum(path.stat().st_size for path in SHIPPED[name].iterdir()) < 8e6


def test_parts_of_ones_own_are_not_shared(my_module, tmp_path):
    """Nor is a stranger's folder let import anything."""
    network = build("my_module:Mean", backbone="small_resnet", num_classes=2, output_stride=4)
    with pytest.raises(InputError, match="head 'my_module:Mean' is somebody's own code"):
        save_pretrained(network, tmp_path / "shared", classes=("a", "b"))
    folder = tmp_path / "strangers"
    ours = build("fcn", backbone="small_resnet", num_classes=2, output_stride=4, channels=8)
    save_pretrained(ours, folder, classes=("a", "b"))
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"small_resnet"', '"my_module:Small"'))
    with pytest.raises(InputError, match="backbone 'my_module:Small' is somebody's own code"):
        from_pretrained(folder)

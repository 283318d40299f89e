"""What the chapters look at: photographs, scenes, a trained unit's features, animations."""

import io

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from emastudy import em, networks
from emastudy.engine import Runtime
from emastudy.study.figures.drawing import animate
from emastudy.study.report import photograph, scene_images, scene_network, unit_features


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs_need_no_download(name):
    image = photograph(name, height=32)
    assert image.dtype == torch.float32
    assert image.shape[:2] == (3, 32)
    assert image.shape[2] % 4 == 0
    assert image.min() >= 0
    assert image.max() <= 1


def test_noise_is_laid_over_a_photograph_and_is_the_same_again():
    image, grains = photograph(height=64), photograph(height=64, noise=2)
    assert 0.1 < (grains - image).std() < 0.13  # cut at black and white
    assert torch.equal(grains, photograph(height=64, noise=2))


def test_unit_features_are_what_the_unit_attends_to():
    torch.manual_seed(0)
    # 256 pixels and 16 bases: the unit itself folds its conv and computes no features.
    network = networks.build(
        "ema", backbone="small_resnet", num_classes=8, output_stride=4, num_bases=16
    ).eval()
    images, masks = scene_images(2)
    assert images.shape == (2, 3, 64, 64)
    assert masks.shape == (2, 64, 64)
    x = unit_features(network, images)
    seen = []
    network.head.context.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
    with torch.no_grad():
        network(images)
        result = network.head.context.attend(seen[0][0])
    ours = em.expectation_maximization(x, network.head.context.bases, 3)
    torch.testing.assert_close(ours.bases, result.bases)
    assert not network.head.context.conv1._forward_hooks


def test_scene_network_is_trained_once_and_loaded_in_float32(tmp_path):
    runtime = Runtime(runs_dir=str(tmp_path), device="cpu", threads=1)
    first = scene_network(0.005, runtime)
    again = scene_network(0.005, runtime)
    assert not again.training
    for mine, yours in zip(first.parameters(), again.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, yours)


def test_animate_makes_a_gif_of_all_frames():
    figure, ax = plt.subplots(figsize=(1, 1))
    drawn = []

    def draw(frame):
        drawn.append(frame)
        ax.clear()
        ax.plot([0, frame + 1])

    picture = Image.open(io.BytesIO(animate(figure, draw, 3)))
    assert picture.format == "GIF"
    assert picture.n_frames >= 3
    assert set(drawn) == {0, 1, 2}

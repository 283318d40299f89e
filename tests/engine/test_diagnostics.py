"""Looking inside the unit."""

import pytest
import torch

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform
from emastudy.engine.diagnostics import basis_class_mass, responsibility_maps, unit_of


def make(head="ema"):
    torch.manual_seed(0)
    return networks.build(
        head, backbone="small_resnet", num_classes=8, output_stride=4, channels=16
    ).eval()


def test_maps_are_z_at_each_iteration_and_the_unit_is_left_as_it_was():
    network, scenes = make(), Scenes("val", num_images=2)
    maps = responsibility_maps(network, scenes, 1, [1, 2, 5])
    assert maps.shape == (3, 64, 16, 16)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(3, 16, 16))
    assert unit_of(network).num_iterations == 3

    unit = unit_of(network)
    features = network.head.reduce(
        network.backbone(evaluation_transform(scenes)(*scenes[1])[0][None])[-1]
    )
    x = unit.conv1(features)[0].flatten(1).T
    first = torch.softmax(x @ unit.bases.T, dim=1)
    torch.testing.assert_close(maps[0], first.T.reshape(64, 16, 16), rtol=1e-4, atol=1e-6)


def test_basis_class_mass_adds_up_and_skips_ignored_pixels():
    maps = torch.zeros(2, 2, 2)
    maps[0, 0], maps[1, 1] = 1, 1  # basis 0 takes the upper half, basis 1 the lower
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    mask[2:, :2], mask[2:, 2:] = 1, 255
    expected = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(basis_class_mass(maps, mask, 3), expected)


def test_a_network_without_unit_is_named():
    with pytest.raises(ValueError, match="no EMA unit"):
        unit_of(make("fcn"))

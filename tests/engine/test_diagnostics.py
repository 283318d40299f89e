"""Looking inside the unit."""

import pytest
import torch

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform
from emastudy.engine.diagnostics import (
    distinct_bases,
    effective_rank,
    em_inputs,
    labels_at,
    responsibility_maps,
    unit_of,
)


def make(head="ema", **options):
    torch.manual_seed(0)
    return networks.build(
        head, backbone="small_resnet", num_classes=8, output_stride=4, channels=16, **options
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


def test_a_network_without_unit_is_named():
    with pytest.raises(ValueError, match="no EMA unit"):
        unit_of(make("fcn"))


def test_em_inputs_of_several_heads_are_those_of_each():
    network, scenes = make(heads=4, num_bases=3), Scenes("val", num_images=1)
    ((x, start, _),) = em_inputs(network, scenes, [0])
    assert x.shape == (4, 256, 4)
    assert start.equal(unit_of(network).bases)
    grid = make(heads=4, num_bases=3, maintenance="grid")
    ((_, start, _),) = em_inputs(grid, scenes, [0])
    assert start.shape == (4, 3, 4)


def test_maps_of_one_basis_a_pixel_are_refused_to_several_heads():
    with pytest.raises(ValueError, match="has heads=4, and a pixel a basis in each; .* heads=1"):
        responsibility_maps(make(heads=4), Scenes("val", num_images=1), 0, [1])


def test_effective_rank_counts_equal_directions():
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.ones(4, 3)).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.eye(4).expand(2, 4, 4)).shape == (2,)


def test_em_inputs_are_what_the_unit_iterates_on():
    network, scenes = make(), Scenes("val", num_images=3)
    unit = unit_of(network)
    maps = responsibility_maps(network, scenes, 2, [1])
    x, start, labels = list(em_inputs(network, scenes, [0, 2]))[1]
    assert x.shape == (256, 16)
    torch.testing.assert_close(start, unit.bases)
    torch.testing.assert_close(torch.softmax(x @ start.T, dim=1), maps[0].flatten(1).T)
    assert torch.equal(labels.reshape(16, 16), labels_at(scenes[2][1], 16, 16))


def test_labels_at_takes_the_pixel_under_the_centre():
    mask = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 255, 11], [12, 13, 14, 15]])
    assert labels_at(mask, 2, 2).tolist() == [[5, 7], [13, 15]]
    assert torch.equal(labels_at(mask, 4, 4), mask)


def test_bases_that_coincide_count_as_one_also_through_a_chain():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 1.5, 1.5])  # radians; cos 0.1 = 0.995
    chain, wide = (torch.stack([a.cos(), a.sin()], dim=-1) for a in (angles, 2 * angles))
    assert distinct_bases(chain).item() == 2
    assert distinct_bases(wide).item() == 5  # cos 0.2 = 0.980
    assert distinct_bases(5 * chain).item() == 2  # lengths do not matter
    apart = torch.eye(6, 2) @ torch.diag(torch.tensor([1.0, -1.0]))
    assert distinct_bases(torch.stack([chain, apart, -chain])).tolist() == [2, 2 + 4, 2]

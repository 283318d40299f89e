"""A photograph followed through a unit: what is drawn is what the unit computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emastudy import em, networks
from emastudy.engine.diagnostics import basis_groups, unit_of
from emastudy.engine.walkthrough import change, walk_through


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = networks.build(
        "ema", backbone="small_resnet", num_classes=3, output_stride=4, channels=16, num_bases=6,
        concentration=30.0,
    )  # fmt: skip
    unit = unit_of(made)
    unit.bases[4:] = unit.bases[0]  # three bases in one place
    made.classes, made.colors = ("ground", "cat", "dog"), ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    return made.eval()


def test_it_draws_what_the_unit_computes(network):
    image = torch.rand(3, 65, 97, generator=torch.Generator().manual_seed(1))
    walk = walk_through(network, image)
    assert walk.sizes.sum() == 6
    assert 3 in walk.sizes
    assert np.allclose(walk.maps.sum(axis=1), 1, atol=1e-5)
    taken = walk.maps[-1].sum(axis=(1, 2))
    assert (np.diff(taken) <= 1e-4).all()  # the largest first
    x = torch.from_numpy(walk.features)
    z, bases, _ = em.expectation_maximization(x, unit_of(network).bases, concentration=30.0)
    assert torch.allclose(torch.from_numpy(walk.estimate), em.reconstruct(z, bases), atol=1e-5)
    assert walk.mask.shape == (65, 97)
    assert walk.mean_colors.shape == (3, len(walk.sizes), 3)
    assert (abs(walk.mean_colors - 0.5) < 0.5).all()
    last = z.T.reshape(6, *walk.maps.shape[-2:])
    assert np.allclose(walk.responsibilities[-1], last, atol=1e-5)
    start = (x @ unit_of(network).bases.T).T.reshape(last.shape)
    assert np.allclose(walk.products[0], start, atol=1e-4)
    triple = list(walk.sizes).index(3)
    assert np.allclose(walk.similarity[0, triple], start[[0, 4, 5]].mean(dim=0), atol=1e-4)


def test_examples_are_of_every_group_in_turn_the_most_used_first(network):
    walk = walk_through(network, torch.rand(3, 65, 97))
    chosen = walk.examples(6)
    groups = list(walk.group[chosen])
    assert sorted(chosen) == list(range(6))
    assert groups[: len(walk.sizes)] == list(range(len(walk.sizes)))
    taken = walk.responsibilities[-1].sum(axis=(1, 2))
    for group in range(len(walk.sizes)):
        mine = [taken[k] for k in chosen if walk.group[k] == group]
        assert mine == sorted(mine, reverse=True)


def test_a_change_is_measured_in_lengths_of_what_was_there():
    x = np.random.default_rng(0).random((5, 3))
    assert change(x, x) == 0
    assert change(x, 3 * x) == pytest.approx(2)


def test_bases_are_in_one_group_through_a_chain_of_others():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5])  # neighbours at cos 0.1 = 0.995, ends at 0.98
    bases = F.pad(torch.stack([angles.cos(), angles.sin()], dim=1), (0, 3))
    groups = basis_groups(bases)
    assert groups[0] == groups[1] == groups[2] != groups[3]

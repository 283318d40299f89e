"""Recipes combined into sweeps."""

import pytest

from emastudy.study.protocols import grid, scenes


def test_a_grid_is_every_combination_with_every_seed():
    configs = grid("scenes", seeds=2, num_iterations=(1, 3), gradient=("detached", "unrolled"))
    assert len({config.id for config in configs}) == 8
    assert configs[0] == scenes(seed=0, num_iterations=1)
    assert configs[-1] == scenes(seed=1, num_iterations=3, gradient="unrolled")
    assert grid("scenes", "fcn", seeds=1, scale=0.5) == [scenes("fcn", scale=0.5)]


def test_an_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="no recipe 'cityscapes'; there are scenes, "):
        grid("cityscapes", seeds=1)

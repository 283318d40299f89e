"""What every recipe takes, by its name or combined into sweeps."""

from dataclasses import replace

import pytest

from emastudy.study.recipes import PAPER_CLASSES, RECIPES, grid, recipe, scenes


def test_a_grid_is_every_combination_with_every_seed():
    configs = grid("scenes", seeds=2, num_iterations=(1, 3), gradient=("detached", "unrolled"))
    assert len({config.id for config in configs}) == 8
    assert configs[0] == scenes(seed=0, num_iterations=1)
    assert configs[-1] == scenes(seed=1, num_iterations=3, gradient="unrolled")
    assert grid("scenes", "fcn", seeds=1, scale=0.5) == [scenes("fcn", scale=0.5)]


def test_an_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="no recipe 'cityscapes'; there are scenes, "):
        grid("cityscapes", seeds=1)


def test_another_backbone_changes_nothing_else():
    assert recipe("scenes") is scenes
    (config,) = grid("scenes", seeds=1, backbone="resnet18", num_iterations=[2])
    assert config == replace(scenes(num_iterations=2), backbone="resnet18")
    assert config.id != scenes(num_iterations=2).id
    assert recipe("scenes", "small_resnet")().id == scenes().id


def test_another_backbone_keeps_the_options_that_it_has():
    paper = RECIPES["voc_ablation"]()
    assert recipe("voc_ablation", "resnet18")().backbone_options == paper.backbone_options != {}
    assert recipe("voc_ablation", "mobilenet_v2")().backbone_options == {}


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="'vgg16'; there are mobilenet_v2"):
        recipe("scenes", "vgg16")


def test_a_heads_second_name_makes_the_same_run():
    assert scenes("emanet").id == scenes("ema").id


def test_a_scale_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"scale is 0.0; expected a number > 0"):
        scenes(scale=0.0)


def test_recipes_are_listed_from_the_small_to_the_papers():
    assert list(RECIPES)[:3] == ["scenes", "animals", "camvid"]
    assert list(RECIPES)[-len(PAPER_CLASSES) :] == list(PAPER_CLASSES)

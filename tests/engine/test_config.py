"""What a run is called, and what it refuses."""

import dataclasses
import datetime
import json
import re

import pytest

from emastudy.engine import RunConfig
from emastudy.engine.build import build_network
from emastudy.errors import InputError
from emastudy.study import recipes


def test_ids_are_frozen():
    """Golden: an id that changes orphans every committed record of its run."""
    assert RunConfig().id == "scenes-ema-44136fa355"
    assert recipes.scenes().id == "scenes-ema-d460f89540"
    assert recipes.animals("fcn").id == "voc2012-fcn-6105ca97a1"
    assert recipes.camvid("fcn").id == "camvid-fcn-aa86e66de5"
    assert recipes.animals_frozen("fcn").id == "voc2012-fcn-5edb1ab99a"
    for recipe, identity in {
        "voc_ablation": "voc2012-ema-657cc0a3e5",
        "voc_val": "voc2012-ema-4da78cee79",
        "voc_val_released": "voc2012-emanet_released-6374b7506b",
        "voc_test_coco": "coco_stuff_164k-ema-3776d86bda",
        "voc_test_trainaug": "voc2012-ema-661468f20f",
        "voc_test": "voc2012-ema-761f1be745",
        "pascal_context": "pascal_context-ema-57cca74664",
        "coco_stuff": "coco_stuff-ema-cb557344e6",
    }.items():
        assert recipes.RECIPES[recipe]().id == identity


def test_stating_a_default_makes_no_other_run():
    plain = RunConfig(head="ema")
    stated = RunConfig(head="ema", head_options={"num_iterations": 3, "normalization": "l2"})
    assert stated.id == plain.id
    assert stated == plain


@pytest.mark.unchecked  # the shape checks' types refuse a learning rate of 1
def test_whole_numbers_and_floats_of_one_value_make_one_run():
    for whole, real in (
        ({"head_options": {"concentration": 2}}, {"head_options": {"concentration": 2.0}}),
        ({"dataset_options": {"noise": 1}}, {"dataset_options": {"noise": 1.0}}),
        ({"learning_rate": 1, "scales": (1, 2)}, {"learning_rate": 1.0, "scales": (1.0, 2.0)}),
    ):
        assert RunConfig(**whole).canonical_json() == RunConfig(**real).canonical_json()
    whole = RunConfig(head_options={"num_bases": 8}, iterations=9).canonical_json()
    assert json.loads(whole) == {"head_options": {"num_bases": 8}, "iterations": 9}
    assert "." not in whole


def test_every_field_counts_in_the_id():
    changed = {
        "dataset": "voc2012", "dataset_options": {"noise": 0.2}, "train_split": "val",
        "eval_split": "test", "eval_images": 7, "head": "fcn", "head_options": {"num_bases": 3},
        "backbone": "resnet18", "pretrained": True, "output_stride": 8, "eval_output_stride": 8,
        "bn_momentum": 0.2, "freeze_bn": True, "scales": (2.0,), "crop_size": 65, "batch_size": 3,
        "iterations": 7, "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.0,
        "poly_power": 1.0, "precision": "float32", "seed": 5,
        "start_from": "scenes-ema-44136fa355", "loss_over": "all",
    }  # fmt: skip
    ids = {dataclasses.replace(RunConfig(), **{k: v}).id for k, v in changed.items()}
    # The small backbone has no options of its own.
    ids.add(RunConfig(backbone="resnet18", backbone_options={"stages": 3}).id)
    # Features of random weights are refused.
    ids.add(RunConfig(pretrained=True, frozen_backbone=True).id)
    # Sources are those of what is named, see below.
    assert {*changed, "backbone_options", "frozen_backbone", "sources"} == {
        f.name for f in dataclasses.fields(RunConfig)
    }
    assert len(ids | {RunConfig().id}) == len(changed) + 3


def test_configs_survive_json():
    for config in (recipes.scenes("ema", gradient="unrolled"), recipes.animals(seed=3)):
        again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config
        assert again.id == config.id


def test_scale_shrinks_iterations_and_scored_scenes():
    small = recipes.scenes(scale=0.1)
    assert (small.iterations, small.eval_images) == (30, 20)
    assert recipes.animals(scale=0.1).iterations == 50


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("momentum", 1.5),
        ("momentum", -0.5),
        ("bn_momentum", 5.0),
        ("poly_power", -0.5),
        ("poly_power", float("nan")),
        ("poly_power", float("inf")),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("learning_rate", 1e39),
        ("weight_decay", float("inf")),
        ("weight_decay", 1e39),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_trained(field, value):
    with pytest.raises(InputError, match=re.escape(f"{field} is {value}; expected a fin")):
        RunConfig(**{field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"scales": ()}, r"scales is \(\)"),
        ({"scales": (0.5, -1.0)}, "scales is"),
        ({"scales": (float("inf"),)}, r"scales is \(inf,\); expected .* ≥ 0.01 and ≤ 100"),
        ({"scales": (0.001,)}, "scales is"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296; expected .* ≤ 4,294,967,295"),
        ({"head_options": {"dropout": 2}}, "head 'ema': dropout is 2; expected .* ≥ 0 and ≤ 1"),
        ({"head_options": {"extra_channels": -5}}, "head 'ema': extra_channels is -5"),
        ({"head_options": {"concentration": float("inf")}}, "concentration is inf; expected a fin"),
        ({"dataset_options": {"noise": float("nan")}}, "dataset_options: noise is nan"),
        pytest.param(
            {"dataset_options": {"seed": datetime.date(2020, 1, 1)}},
            "dataset_options: seed is datetime.date",
            marks=pytest.mark.unchecked,
        ),
        pytest.param(
            {"loss_over": "none"},
            "loss_over is 'none'; expected one of labelled, all",
            marks=pytest.mark.unchecked,
        ),
        ({"start_from": "x", "pretrained": True}, "start_from is 'x' with pretrained=True"),
        ({"head": "crf"}, "there are .*ema, .*fcn, .*non_local"),
        ({"head_options": {"num_base": 3}}, "no option 'num_base'; it has channels"),
    ],
)
def test_bad_fields_are_named(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RunConfig(), **change)


def test_unknown_fields_are_errors():
    with pytest.raises(InputError, match="no field 'learning_rat'; it has .*learning_rate"):
        RunConfig.from_dict({"learning_rat": 0.1})


def test_a_second_name_makes_the_same_run():
    assert RunConfig(head="emanet") == RunConfig(head="ema")
    assert RunConfig(head="emanet").id == RunConfig().id


def test_stating_a_backbones_default_makes_no_other_run():
    plain = RunConfig(backbone="resnet18")
    assert RunConfig(backbone="resnet18", backbone_options={"deep_stem": False}).id == plain.id
    assert RunConfig(backbone="resnet18", backbone_options={"deep_stem": True}).id != plain.id
    assert "backbone_options" not in plain.canonical_json()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "vgg"}, "backbone is 'vgg'; there are mobilenet_v2, "),
        ({"backbone_options": {"depth": 3}}, "backbone 'small_resnet' has no option 'depth'"),
        ({"head": "emanet_released"}, "backbone 'small_resnet' has no option 'deep_stem'"),
        ({"head": "pspnet", "head_options": {"num_bases": 3}}, "head 'pspnet' has no option"),
    ],
)
def test_unknown_names_are_errors(fields, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_options": {"num_iterations": 4.0}}, "head 'ema': num_iterations is 4.0; expected"),
        ({"head_options": {"channels": True}}, "channels is True; expected a whole number"),
        (
            {"backbone": "resnet18", "backbone_options": {"deep_stem": "yes"}},
            "backbone 'resnet18': deep_stem is 'yes'; expected true or false",
        ),
    ],
)
def test_options_of_another_type_are_errors(fields, message):
    """Later they would be a bug's traceback, or another run's id for the same run."""
    with pytest.raises(InputError, match=message):
        RunConfig(**fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrained": False}, "frozen_backbone is True with pretrained=False"),
        ({"scales": (0.5, 1.0)}, r"scales is \(0.5, 1.0\) with frozen_backbone=True"),
        ({"crop_size": 0, "frozen_backbone": False}, "crop_size is 0, .* frozen_backbone=False"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RunConfig(pretrained=True, frozen_backbone=True), **change)


def test_a_changed_unit_is_another_run(my_module):
    config = recipes.scenes("my_module:Mean", weight=0.5)
    assert config.id.startswith("scenes-Mean-")
    assert config.sources.keys() == {"my_module"}
    assert config.sources["my_module"] in config.canonical_json()
    assert recipes.scenes("my_module:Mean", weight=1.0) == recipes.scenes("my_module:Mean")
    my_module.write_text(my_module.read_text() + "# another\n")
    changed = recipes.scenes("my_module:Mean", weight=0.5)
    assert changed.id != config.id
    assert dataclasses.replace(changed, sources=config.sources) == config


def test_the_sources_are_those_of_what_is_named(my_module):
    plain = RunConfig()
    assert plain.sources == {}
    assert RunConfig(sources={"my_module": "0123"}) == plain
    own = dataclasses.replace(plain, head="my_module:Mean")
    assert dataclasses.replace(own, head="ema") == plain
    for part in ({"backbone": "my_module:Small"}, {"dataset": "my_module:Few"}):
        assert dataclasses.replace(plain, **part).sources == own.sources


@pytest.mark.parametrize("fate", ["changed", "gone", "broken"])
def test_a_stored_config_outlives_the_file_of_its_unit(my_module, fate):
    config = recipes.scenes("my_module:Mean", weight=0.5)
    stored = json.dumps(config.to_dict())
    if fate == "gone":
        my_module.unlink()
    else:
        new = "weight: float = 0.5" if fate == "changed" else "weight: float = "
        my_module.write_text(my_module.read_text().replace("weight: float = 1.0", new))
    again = RunConfig.from_dict(json.loads(stored))
    assert again == config
    assert again.id == config.id
    assert not again.has_source("my_module:Mean")
    words = "there is no file my_module.py" if fate == "gone" else f"changed: run {config.id} was"
    with pytest.raises(InputError, match=words):
        build_network(again, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "my_module:Max"}, "my_module.py defines no Max; it defines Mean, Small, Few"),
        (
            {"head": "my_module"},
            "head is 'my_module', which names no class; expected module:class, and .*my_module.py "
            "has my_module:Mean, my_module:Small, my_module:Few",
        ),
        ({"head": "my_module.py"}, "head is 'my_module.py', which .* has my_module:Mean"),
        ({"head": "my_module.Mean"}, "head is 'my_module.Mean', which .* has my_module:Mean"),
        ({"backbone": "my_module"}, "backbone is 'my_module', which .*, my_module:Small"),
        ({"head": "my_module:Mean", "head_options": {"wait": 1}}, "has no option 'wait'; .*weight"),
        ({"backbone": "my_module:Small", "backbone_options": {"w": 1}}, "no option 'w'; it has wi"),
        ({"dataset": "no_module:Few"}, "'no_module:Few': there is no file no_module.py in "),
    ],
)
def test_a_slip_in_an_import_path_is_named(my_module, fields, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**fields)

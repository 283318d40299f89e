"""Estimates follow the counted multiply-adds, and nothing else."""

import dataclasses
import json

import pytest
import torch

from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network
from emastudy.study.recipes import PAPER_CLASSES, RECIPES
from emastudy.study.tables import estimate, plan, sustained


def test_training_is_three_forward_passes_of_every_image(tiny):
    with torch.device("meta"):
        one = cost.measure(build_network(tiny, 5), (tiny.crop_size, tiny.crop_size))
    found = estimate(tiny, macs_per_second=1e6, num_classes=5)
    assert found.macs == 3 * one.macs * tiny.batch_size * tiny.iterations
    assert found.hours == pytest.approx(found.macs / 1e6 / 3600)
    assert found.memory == one.activation_bytes * tiny.batch_size / 2 + 12 * one.params


def test_gpus_share_the_batch(tiny):
    one, two = (estimate(tiny, gpus=n) for n in (1, 2))
    assert two.macs == one.macs
    assert two.hours == pytest.approx(one.hours / 2)
    assert one.memory / 2 < two.memory < one.memory  # weights are not shared out
    with pytest.raises(ValueError, match="gpus is 3.*batch_size = 2"):
        estimate(tiny, gpus=3)


def test_what_does_not_shape_the_network_does_not_count(tiny):
    other = dataclasses.replace(tiny, seed=3, learning_rate=1.0, train_split="trainaug")
    assert estimate(other) == estimate(tiny)


def test_a_head_costs_what_its_products_say():
    config = RunConfig(head="fcn", head_options={"channels": 4}, batch_size=2, iterations=7)
    narrow = dataclasses.replace(config, head_options={"channels": 1})
    more = estimate(config, num_classes=8).macs - estimate(narrow, num_classes=8).macs
    # On a 16×16 map: the 3×3 conv from 64 channels, and the classifier.
    assert more == 14 * 3 * 16 * 16 * (9 * 64 + 8) * (4 - 1)


def test_the_plan_has_the_estimate_of_every_run_of_every_table():
    planned = plan()
    assert list(planned.index.get_level_values("table")) == ["Table 2"] * 3 + ["Table 3", "Table 4"]
    for (_, recipe), row in planned.iterrows():
        config = RECIPES[recipe]()
        one = estimate(config, num_classes=PAPER_CLASSES[recipe])
        assert row["peta_macs"] == one.macs / 1e15
        assert row["gpu_hours"] == pytest.approx(one.macs / sustained().macs_per_second / 3600)
        assert row["memory_gib"] == one.memory / 2**30
        assert ("--weights-path" in row["command"]) == config.pretrained
        assert f"emastudy train {recipe} " in row["command"]
    memory = planned["memory_gib"].droplevel("table")
    assert memory["coco_stuff"] > 2 * memory["pascal_context"], "stride 8 against 16"


def results(tmp_path, **ways):
    path = tmp_path / "throughput.json"
    made = {"2": {"machine": {"accelerator": "Some GPU"}}}
    found = {
        name: {"ways": {"plain": {"macs_per_second": 1.0}, "default": {"macs_per_second": macs}}}
        | {"made": "2"}
        for name, macs in ways.items()
    }
    path.write_text(json.dumps({"made": made, "results": found}))
    return path


def test_what_a_gpu_sustains_is_measured_or_called_an_assumption(tmp_path):
    measured = sustained(
        results(tmp_path, **{"resnet50, batch 16": 9e13, "resnet101, batch 16": 1.234e14})
    )
    assert measured.macs_per_second == 1.234e14
    assert "123·10¹² multiply-adds a second" in measured.words
    assert "resnet101, batch 16, on one Some GPU" in measured.words
    assert "assumption" not in measured.words
    for path in (results(tmp_path, **{"small_resnet, batch 2": 1e9}), tmp_path / "absent.json"):
        assumed = sustained(path)
        assert assumed.macs_per_second == 25e12
        assert "25·10¹² multiply-adds a second in bfloat16, which is an assumption" in assumed.words


def test_an_estimate_is_at_the_measured_speed(tiny, tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = estimate(tiny)
    results(folder, **{"resnet101, batch 16": 50e12})
    assert estimate(tiny).hours == pytest.approx(before.hours / 2)


@pytest.mark.parametrize("text", ["{", "[]", '{"results": {"resnet101, batch 16": {"ways": 3}}}'])
def test_a_file_of_something_else_is_named(text, tmp_path):
    path = tmp_path / "throughput.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"throughput\.json does not hold"):
        sustained(path)

"""Tables 2-4: what they say, what they take, and their chain of runs on scenes."""

import dataclasses
from itertools import pairwise

import pytest

from emastudy.engine import cost, train
from emastudy.engine.build import build_network
from emastudy.study import tables
from emastudy.study.measures import Measurement
from emastudy.study.recipes import PROTOCOLS
from emastudy.study.runs import circumstances


def test_margins_compare_like_with_like():
    # DeepLabV3+ and Exfuse score higher on other backbones; recalled numbers do not count.
    assert tables.margin("Table 2") == (
        "Table 2: EMANet (ResNet-101) 87.7 % mIoU, +0.9 against the best other ResNet-101 "
        "(DIS, 86.8)."
    )
    assert "+0.5 against the best other ResNet-101 (DANet, 52.6)" in tables.margin("Table 3")
    assert "+0.2 against the best other ResNet-101 (DANet, 39.7)" in tables.margin("Table 4")


def test_the_plan_counts_every_run_of_every_table():
    plan = tables.plan(macs_per_second=1e12)
    assert list(plan.index.get_level_values("table")) == ["Table 2"] * 3 + ["Table 3", "Table 4"]
    for (_, recipe), row in plan.iterrows():
        config = PROTOCOLS[recipe]()
        assert row["gpu_hours"] == pytest.approx(row["peta_macs"] * 1000 / 3600)
        assert ("--weights-path" in row["command"]) == config.pretrained
        assert f"emastudy train {recipe} " in row["command"]
    one = cost.training_macs(PROTOCOLS["pascal_context"](), 60)
    assert plan["peta_macs"].loc["Table 3", "pascal_context"] == one / 1e15
    memory = plan["memory_gib"].droplevel("table")
    assert memory["coco_stuff"] > 2 * memory["pascal_context"], "stride 8 against 16"


def test_only_runs_of_the_protocol_count_as_ours(tmp_path):
    assert tables.paper_scores(tmp_path / "absent").empty
    ours = PROTOCOLS["pascal_context"](seed=1)
    row = {
        "at.num_iterations": 0,
        "at.corruption": "",
        "at.severity": 0,
        "at.split": "val",
        "at.multi_scale": True,
        "miou": 52.0,
    }
    for config in (ours, dataclasses.replace(ours, batch_size=3)):
        Measurement(config, "scores", {}, [row], circumstances("float32")).write(tmp_path)
    found = tables.paper_scores(tmp_path)
    assert found[["table", "seed", "miou", "published"]].values.tolist() == [
        ["Table 3", 1, 52.0, 53.1]
    ]


def test_the_rehearsal_is_the_papers_chain(runtime):
    chain = tables.rehearsal(seed=1, scale=0.02)
    assert [c.iterations for c in tables.rehearsal(seed=1)] == [300, 60, 60]
    rates = [c.learning_rate / chain[0].learning_rate for c in chain]
    assert rates == pytest.approx([1, 1 / 9, 1 / 90])
    assert chain[0].id == PROTOCOLS["scenes"](seed=1, scale=0.02).id
    assert [c.start_from for c in chain] == ["", chain[0].id, chain[1].id]
    ends = [train(config, runtime).network.state_dict() for config in chain]
    # A run of the small rate moves the weights a little from where the last one ended.
    name = next(key for key in ends[0] if key.endswith("conv1.weight"))
    moved = [float((b[name] - a[name]).norm()) for a, b in pairwise(ends)]
    fresh = build_network(chain[0], 8).state_dict()[name]
    assert max(moved) < 0.1 * float((ends[0][name] - fresh).norm())

"""Tables 2-4: what counts as our runs of them, and their chain of runs on scenes."""

import dataclasses
from itertools import pairwise

import pytest
from study.made_up import at

from emastudy.engine import train
from emastudy.engine.build import build_network
from emastudy.study import tables
from emastudy.study.measures import Measurement
from emastudy.study.recipes import RECIPES
from emastudy.study.runs import circumstances


def test_only_runs_of_the_very_recipe_count_as_ours(tmp_path):
    assert tables.paper_scores(tmp_path / "absent").empty
    ours = RECIPES["pascal_context"](seed=1)
    whole = {**at(multi_scale=True), "images": 5105, "miou": 52.0}
    rows = [whole, {**whole, "images": 64, "miou": 60.0}, {**whole, **at(), "miou": 51.0}]
    for config in (ours, dataclasses.replace(ours, batch_size=3)):
        Measurement(config, "scores", {}, rows, circumstances("float32")).write(tmp_path)
    found = tables.paper_scores(tmp_path)
    assert found[["table", "seed", "miou", "published"]].values.tolist() == [
        ["Table 3", 1, 52.0, 53.1]
    ]


def test_the_rehearsal_is_the_papers_chain(runtime):
    chain = tables.rehearsal(seed=1, scale=0.02)
    assert [c.iterations for c in tables.rehearsal(seed=1)] == [300, 60, 60]
    rates = [c.learning_rate / chain[0].learning_rate for c in chain]
    assert rates == pytest.approx([1, 1 / 9, 1 / 90])
    assert chain[0].id == RECIPES["scenes"](seed=1, scale=0.02).id
    assert [c.start_from for c in chain] == ["", chain[0].id, chain[1].id]
    ends = [train(config, runtime).network.state_dict() for config in chain]
    # A run of the small rate moves the weights a little from where the last one ended.
    name = next(key for key in ends[0] if key.endswith("conv1.weight"))
    moved = [float((b[name] - a[name]).norm()) for a, b in pairwise(ends)]
    fresh = build_network(chain[0], 8).state_dict()[name]
    assert max(moved) < 0.1 * float((ends[0][name] - fresh).norm())

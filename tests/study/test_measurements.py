"""Measurements: the numbers, the files that keep them, and who is asked again."""

import dataclasses
import itertools
import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from study.made_up import evidence

from emastudy.engine import RunConfig, predict, train
from emastudy.engine.build import load_dataset
from emastudy.engine.diagnostics import responsibility_maps, unit_of
from emastudy.study import RecordError, SweepError, measures
from emastudy.study.claims import CLAIMS
from emastudy.study.measures import (
    MEASURES,
    Measurement,
    evenly_spaced,
    from_run_lengths,
    load_measurements,
    measure,
    measure_one,
    mutual_information,
    run_lengths,
)
from emastudy.study.measures import store as module


@pytest.fixture
def unit_run():
    return RunConfig(
        head_options={"channels": 8, "num_bases": 4, "num_iterations": 2},
        batch_size=2,
        iterations=2,
        eval_images=4,
        crop_size=32,
    )


@pytest.fixture
def network(unit_run, runtime):
    network = train(unit_run, runtime).network.eval()
    network.set_output_stride(unit_run.eval_output_stride)
    return network


def test_mutual_information_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    basis, label = (torch.randint(5, (400,), generator=generator) for _ in range(2))
    label = torch.where(basis > 2, label % 2, label)
    counts = torch.zeros(5, 5, dtype=torch.float64)
    for k, c in zip(basis, label, strict=True):
        counts[k, c] += 1
    assert mutual_information(counts) == pytest.approx(mutual_info_score(basis, label))
    assert mutual_information(torch.eye(4)) == pytest.approx(torch.tensor(4.0).log().item())
    assert mutual_information(torch.ones(3, 4)) == pytest.approx(0, abs=1e-7)


def test_scores_make_a_row_of_every_combination(unit_run, network, runtime):
    rows = MEASURES["scores"](
        network,
        unit_run,
        runtime,
        iterations=[1, 2],
        corruptions=["", "noise"],
        severities=[1, 5],
        images=2,
    )
    seen = {(r["at.num_iterations"], r["at.corruption"], r["at.severity"]) for r in rows}
    assert seen == {(t, *c) for t in (1, 2) for c in (("", 0), ("noise", 1), ("noise", 5))}
    assert all(r["at.split"] == "val" and not r["at.multi_scale"] for r in rows)
    assert all(sum(map(sum, r["confusion"])) == 2 * 64 * 64 for r in rows)
    assert rows[0]["confusion"] != rows[-1]["confusion"]


def test_objective_counts_the_images_in_which_it_falls(unit_run, network, runtime):
    (row,) = MEASURES["objective"](network, unit_run, runtime, iterations=5, images=3)
    assert row["images"] == 3
    assert len(row["objective"]) == 6
    assert row["falls"] == 0  # l2 bases: it is EM
    assert row["objective"] == sorted(row["objective"])
    unit = unit_of(network)
    unit.normalization = "none"
    unit.bases.mul_(20)  # long bases shrink to means: the objective of the softmax must fall
    (row,) = MEASURES["objective"](network, unit_run, runtime, iterations=5, images=3)
    assert row["falls"] == 3
    assert row["largest_fall"] > 1e-3


def test_rank_of_the_estimate_is_at_most_the_number_of_bases(unit_run, network, runtime):
    (row,) = MEASURES["rank"](network, unit_run, runtime, images=2)
    assert row["largest_rank_estimate"] <= row["num_bases"] == 4
    assert row["rank_estimate"] <= row["rank_x"] <= 8
    assert 1 <= row["effective_rank_estimate"] <= row["rank_estimate"] + 1e-6
    assert row["spectrum_x"][0] == row["spectrum_estimate"][0] == 1
    assert max(row["spectrum_estimate"][4:]) < 1e-6


def test_concepts_know_what_a_basis_per_class_would_know(unit_run, network, runtime, monkeypatch):
    (row,) = MEASURES["concepts"](network, unit_run, runtime, images=4)
    assert len(row["information"]) == len(row["random_bases"]) == 2
    assert sum(map(sum, row["counts"])) == 4 * 16 * 16
    assert 0 <= row["shuffled"] <= row["entropy"]

    # Features that are the class itself, bases that are the classes: all there is to know.
    def perfect(network, dataset, indices):
        labels = torch.arange(4).repeat(25)
        for _ in indices:
            yield 9 * torch.eye(8)[labels], torch.eye(8)[:4], labels

    monkeypatch.setattr(measures, "em_inputs", perfect)
    (row,) = MEASURES["concepts"](network, unit_run, runtime, images=4)
    assert row["matched"] == row["information"][-1] == pytest.approx(row["entropy"])
    assert row["shuffled"] < 0.8 * row["entropy"]


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_run_lengths_lose_nothing(mask):
    runs = run_lengths(mask)
    np.testing.assert_array_equal(from_run_lengths(runs), mask)
    assert all(a != b for a, b in itertools.pairwise(runs["classes"]))


def test_bases_that_merge_are_counted_iteration_by_iteration(
    unit_run, network, runtime, monkeypatch
):
    (row,) = MEASURES["distinct"](network, unit_run, runtime, iterations=3, images=2)
    assert len(row["distinct"]) == 4
    assert all(1 <= count <= row["num_bases"] == 4 for count in row["distinct"])
    assert len(row["critical"]) == 2

    # Two clusters, two bases near each: apart at first, after one iteration both are its mean.
    labels = torch.arange(2).repeat_interleave(50)
    x = 9 * torch.eye(8)[labels]
    bases = torch.nn.functional.normalize(
        torch.eye(8)[[0, 0, 1, 1]] + 0.3 * torch.eye(8)[[2, 3, 4, 5]], dim=-1
    )
    monkeypatch.setattr(measures, "em_inputs", lambda *_: [(x, bases, labels)] * 2)
    (row,) = MEASURES["distinct"](network, unit_run, runtime, iterations=1, images=2)
    assert row["distinct"] == [4, 2]
    # Mean (4.5, 4.5), length 9/√2; apart from it ±(4.5, -4.5), mean square 81/2.
    assert row["critical"] == pytest.approx([(9 / 2**0.5) / (81 / 2)] * 2)


def test_maps_are_responsibilities_of_bases_chosen_by_rule(unit_run, network, runtime):
    (found,) = MEASURES["concepts"](network, unit_run, runtime, images=4)
    rows = MEASURES["maps"](network, unit_run, runtime, pictures=2, images=4)
    row = rows[1]
    assert [r["image"] for r in rows] == [0, 1]
    assert row["chosen"] == ["pure", "telling", "telling", "used"]  # all four that there are
    counts = np.array(found["counts"], dtype=float)
    classes = counts / counts.sum(axis=1, keepdims=True)
    assert row["bases"][0] == classes.max(axis=1).argmax()
    divergence = [entropy(mine, counts.sum(axis=0) / counts.sum()) for mine in classes]
    assert sorted(row["bases"][1:3], key=lambda k: -divergence[k]) == row["bases"][1:3]
    assert divergence[row["bases"][3]] < divergence[row["bases"][2]]
    drawn = torch.tensor(row["maps"])
    assert drawn.shape == (2, len(row["bases"]), 16, 16)
    scenes = load_dataset(unit_run, "val", runtime)
    z = responsibility_maps(network, scenes, 1, [1, 2])[:, row["bases"]]
    torch.testing.assert_close(drawn / 255, z, atol=0.5 / 255, rtol=0)
    predicted = from_run_lengths(row["prediction"])
    network_says = predict(network, scenes[1][0], scenes, dtype=runtime.autocast_dtype(unit_run))
    np.testing.assert_array_equal(predicted, network_says)


def test_a_measurement_is_made_once_and_then_read(unit_run, runtime, tmp_path, monkeypatch):
    frame = measure([unit_run], "rank", tmp_path, runtime, images=2)
    assert frame["id"].tolist() == [unit_run.id]
    assert frame["head.num_iterations"].tolist() == [2]
    monkeypatch.setattr(module, "train", None)  # calling it would fail
    again = measure([unit_run], "rank", tmp_path, runtime, images=2)
    assert again.equals(frame)
    assert load_measurements(tmp_path, "rank").equals(frame)
    assert load_measurements(tmp_path, "objective").empty
    # Stating a default is no other measurement; another option is.
    assert not list(tmp_path.glob("measurements/*.objective-*"))
    with pytest.raises(SweepError, match="none of the 1 runs"):
        measure([unit_run], "rank", tmp_path, runtime, executor="none", images=3)


def test_defaults_may_be_stated(unit_run, runtime, tmp_path):
    path = measure_one(unit_run, tmp_path, runtime, name="rank", options={})
    frame = measure([unit_run], "rank", tmp_path, runtime, executor="none", images=64)
    assert len(frame) == 1
    assert path.name.startswith(f"{unit_run.id}.rank-")


@pytest.mark.parametrize("damage", ["truncated", "other run", "schema"])
def test_a_damaged_measurement_is_refused_by_name(unit_run, runtime, tmp_path, damage):
    path = measure_one(unit_run, tmp_path, runtime, name="rank", options={"images": 1})
    values = json.loads(path.read_text())
    if damage == "truncated":
        path.write_text(path.read_text()[:100])
    elif damage == "other run":
        values["config"] = dataclasses.replace(unit_run, seed=7).to_dict()
        path.write_text(json.dumps(values))
    else:
        path.write_text(json.dumps({**values, "schema": 0}))
    with pytest.raises(RecordError, match="delete it and run the notebook again"):
        Measurement.read(path)


def test_unknown_measures_and_options_are_named(unit_run, runtime, tmp_path):
    with pytest.raises(ValueError, match="measure is 'speed'; there are concepts, distinct, maps"):
        measure([unit_run], "speed", tmp_path, runtime)
    with pytest.raises(ValueError, match="'rank' has no option 'pictures'; it has images"):
        measure([unit_run], "rank", tmp_path, runtime, pictures=3)


def test_evenly_spaced():
    assert evenly_spaced(10, 3) == [0, 3, 6]
    assert evenly_spaced(4, 0) == evenly_spaced(4, 9) == [0, 1, 2, 3]


def test_time_is_what_the_claim_of_little_overhead_reads(unit_run, network, runtime):
    (row,) = MEASURES["time"](network, unit_run, runtime, sides=[8, 12, 16], size=32, repeats=1)
    assert row["pixels"] == [64, 144, 256]
    assert all(value > 0 for value in (*row["seconds"], row["unit_seconds"]))
    table = module.to_frame([Measurement(unit_run, "time", {}, [row], {})]).set_index("id")
    (found,) = CLAIMS["C8"].findings([evidence(time=table)])
    share = found.parts[2].effect
    assert share == pytest.approx(row["unit_seconds"] / row["network_seconds"])
    assert found.parts[1].verdict != "not run"

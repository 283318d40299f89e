"""Curves, and the check that stops a diverged run."""

import dataclasses

import pytest
from engine.tiny import TINY, runtime

from emastudy.engine import checkpoints, load_network, train
from emastudy.engine.training import parallel
from emastudy.engine.training.loss import segmentation_loss
from emastudy.errors import NonFiniteLossError


def test_a_nan_loss_stops_and_keeps_what_was_saved(tmp_path, monkeypatch):
    place = runtime(tmp_path)
    calls = []

    def poisoned(*inputs):
        calls.append(1)
        return segmentation_loss(*inputs) * (float("nan") if len(calls) == 17 else 1)

    monkeypatch.setattr(parallel, "segmentation_loss", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"nan at iteration 17 of run scenes-ema-.*Config"):
        train(TINY, place)
    assert [p.name for p in place.run_dir(TINY).glob("checkpoint-*")] == ["checkpoint-000010"]
    network, manifest = load_network(place.run_dir(TINY))
    assert all(v.isfinite().all() for v in network.state_dict().values())


@pytest.mark.parametrize(("head", "named"), [("ema", "conv1_gradient"), ("fcn", "tensor ")])
def test_nan_gradients_never_reach_a_checkpoint(head, named, tmp_path, monkeypatch):
    """The loss of the tenth iteration is finite, and a checkpoint due: its weights are not."""
    config = dataclasses.replace(TINY, head=head, head_options={"channels": 16})
    if head == "ema":
        config = dataclasses.replace(TINY)
    calls = []

    def poisoned(logits, *rest):
        calls.append(1)
        if len(calls) == 10:
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return segmentation_loss(logits, *rest)

    monkeypatch.setattr(parallel, "segmentation_loss", poisoned)
    with pytest.raises(NonFiniteLossError, match=f"the {named}.* at iteration 10 of run.*Lower"):
        train(config, runtime(tmp_path))
    assert checkpoints.newest(runtime(tmp_path).run_dir(config)) is None

"""The tiny run, trained without a disturbance."""

import pytest
from engine.tiny import TINY, end, runtime

from emastudy.engine import train


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    place = runtime(tmp_path_factory.mktemp("undisturbed"))
    train(TINY, place)
    files, curves, pending = end(place)
    assert {"model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"} == set(
        files
    )
    assert len(curves["conv1_gradient"]) == 3
    return files, curves, pending

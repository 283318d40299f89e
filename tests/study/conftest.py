"""A run that takes a second, a made-up record, and made-up costs."""

import pandas as pd
import pytest

from emastudy.engine import RunConfig, Runtime
from emastudy.study import Record
from emastudy.study.claims import judges_unit
from emastudy.study.runs import circumstances

TINY = RunConfig(
    head="fcn",
    head_options={"channels": 8},
    batch_size=2,
    iterations=3,
    eval_images=2,
    crop_size=32,
)


@pytest.fixture
def tiny():
    return TINY


@pytest.fixture
def runtime(tmp_path):
    return Runtime(runs_dir=str(tmp_path / "runs"), device="cpu", threads=1)


def make_record(config, miou=50.0):
    return Record(
        config=config,
        metrics={"miou": miou, "pixel_accuracy": 60.0},
        iou={"a": 0.5, "b": None},
        confusion=[[1, 2], [3, 4]],
        curves={"loss": [(10, 1.5), (20, 0.5)]},
        seconds={"train": 12.0, "evaluate": 1.0},
        parameters=10,
        **circumstances("float32"),
    )


@pytest.fixture
def cheap_costs(monkeypatch):
    """Table 1's costs, made up: counting them takes a while."""
    methods = ["DeepLabV3", "DeepLabV3+", "PSANet", "EMANet (512)"]
    costs = pd.DataFrame({"gmacs": [6, 8, 5, 4], "mparams": [6, 8, 5, 4]}, methods)
    costs["kept_mib"] = [7.0, 8.0, 9.0, 4.0]
    monkeypatch.setattr(judges_unit, "_table1", lambda: costs)
    return costs

"""A run that takes a second, and a made-up record."""

import pytest

from emastudy.engine import RunConfig, Runtime
from emastudy.study import Record
from emastudy.study.records import circumstances

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

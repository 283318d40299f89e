"""A run that takes a second, a made-up record of a run, and ways to damage a record."""

import json

from emastudy.engine import RunConfig
from emastudy.study import Record
from emastudy.study.runs import circumstances

TINY = RunConfig(
    head="fcn",
    head_options={"channels": 8},
    batch_size=2,
    iterations=3,
    eval_images=2,
    crop_size=32,
)


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


def damage(path, how):
    text = path.read_text()
    values = json.loads(text)
    if how == "truncated":
        return path.write_text(text[: len(text) // 2])
    if how == "empty":
        return path.write_text("")
    if how == "older schema":
        values["schema"] = 0
    elif how == "another's":
        values["config"]["seed"] = 7
    elif how == "unknown field":
        values["config"]["colour"] = "red"
    elif how == "lacking field":
        del values["metrics"]
    return path.write_text(json.dumps(values))

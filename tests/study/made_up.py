"""Made-up records and measurements, for the tests of claims and their judges."""

import dataclasses
import functools

import numpy as np
import pandas as pd
from study.tiny import make_record

from emastudy.engine import RunConfig
from emastudy.study.claims import CLAIMS, Evidence
from emastudy.study.recipes import scenes
from emastudy.study.runs import to_frame

SEEDS = range(5)
# What seeds have in common, much larger than what is compared: pairing must take it out.
SHARED_BY_SEED = np.array([0.0, 9.0, -7.0, 4.0, -12.0])
NOISE = np.array([0.3, -0.2, 0.1, -0.3, 0.1])


@functools.cache
def blank():
    return make_record(RunConfig())


def record(config, miou, curves=None):
    return dataclasses.replace(
        blank(),
        config=config,
        metrics={"miou": float(miou), "pixel_accuracy": 0.0},
        curves=curves or {},
    )


def runs(values):
    """{(head, options as pairs): mIoU a seed} as a table of records."""
    return to_frame(
        record(scenes(head, seed=seed, **dict(options)), value)
        for (head, options), column in values.items()
        for seed, value in enumerate(column)
    )


def scored(gains, noise=NOISE, seeds=5):
    """Runs whose mIoU is 50, what the seed shares, the gain, and a noise of their own."""
    return runs(
        {
            key: (50 + SHARED_BY_SEED + gain + noise * (-1) ** n)[:seeds]
            for n, (key, gain) in enumerate(gains.items())
        }
    )


def measured(rows):
    """[(config, values)] as a table of measurements."""
    rows = [
        {**record(config, 0).config.to_dict(), "id": config.id, **values} for config, values in rows
    ]
    return pd.DataFrame(rows).set_index("id")


def evidence(records=None, needed=5, **measurements):
    return Evidence(
        "scenes", scenes, needed, pd.DataFrame() if records is None else records, measurements
    )


def find(id, evidence, gradient="detached", variant=""):
    (found,) = [
        f for f in CLAIMS[id].findings([evidence]) if (f.gradient, f.variant) == (gradient, variant)
    ]
    return found


def ema(**options):
    return ("ema", tuple(options.items()))


def plain(head):
    return (head, ())

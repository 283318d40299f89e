"""Made-up records, measurements and evidence, for the tests of claims, tables and reports.

A made-up score is 50 mIoU, plus what all methods share of a seed, plus a method's gain, plus noise.
``scored({ema(): 2.0, plain("fcn"): 0.0})`` are the records of two methods, five seeds each, whose
paired difference is about 2; ``evidence(records)`` hands them to claims; ``find("C17", evidence)``
is the finding.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
from study.tiny import make_record

from emastudy.engine import RunConfig
from emastudy.engine.walkthrough import Walkthrough
from emastudy.study.claims import CLAIMS, Evidence
from emastudy.study.recipes import name_methods, scenes
from emastudy.study.runs import to_frame
from emastudy.study.tables import table1_runs

SEEDS = range(5)
# What methods share by seed, much larger than what is compared: pairing must take it out.
SHARED_BY_SEED = np.array([0.0, 9.0, -7.0, 4.0, -12.0])
NOISE = np.array([0.3, -0.2, 0.1, -0.3, 0.1])
GAPS = {"EMA, detached": 4.0, "PSANet": 2.0, "DeepLabV3+": 4.0, "DeepLabV3": 1.0, "FCN": 0.0}


@functools.cache
def _blank():
    return make_record(RunConfig())


def record(config, miou, curves=None):
    """A record; circumstances, which take a while, are asked for once for all."""
    return dataclasses.replace(
        _blank(),
        config=config,
        metrics={"miou": float(miou), "pixel_accuracy": 0.0},
        curves=curves or {},
    )


def ema(**options):
    """A method: EMA with options of its head."""
    return ("ema", tuple(options.items()))


def plain(head):
    """A method: another head as the recipe has it."""
    return (head, ())


def runs(values):
    """Records of scenes: {method: one mIoU a seed} → a table, one row a run."""
    return to_frame(
        record(scenes(head, seed=seed, **dict(options)), value)
        for (head, options), column in values.items()
        for seed, value in enumerate(column)
    )


def scored(gains, noise=NOISE, seeds=5):
    """Records of scenes: {method: gain} → a table, one row a run."""
    return runs(
        {
            method: (50 + SHARED_BY_SEED + gain + noise * (-1) ** n)[:seeds]
            for n, (method, gain) in enumerate(gains.items())
        }
    )


def compared():
    """Records of some of Table 1's methods, three seeds each, with a column "method".

    Seeds differ by 10, the methods within a seed by exactly GAPS and, DeepLabV3+ alone, by noise.
    """
    methods = table1_runs(scenes, seeds=3)
    runs = to_frame(
        record(config, 50 + 10 * seed + gap + (method == "DeepLabV3+") * (0.1, -0.1, 0.0)[seed])
        for method, gap in reversed(GAPS.items())
        for seed, config in enumerate(methods[method])
    )
    return name_methods(runs, methods)


# --- measurements -------------------------------------------------------------------------------


def measured(rows):
    """[(config, values)] as a table of measurements."""
    rows = [{**config.to_dict(), "id": config.id, **values} for config, values in rows]
    return pd.DataFrame(rows).set_index("id")


def at(split="val", **options):
    """How a score was made, as columns: the recipe's own way but for the options."""
    usual = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": False}
    return {f"at.{name}": value for name, value in {**usual, "split": split, **options}.items()}


def scores(rows, images=200):
    """[(head, how, mIoU a seed)] as a table of the measure "scores", see :func:`at`."""
    return measured(
        [
            (scenes(head, seed=seed), {**at(**how), "images": images, "miou": float(value)})
            for head, how, column in rows
            for seed, value in enumerate(column)
        ]
    )


# --- evidence and findings ----------------------------------------------------------------------


def evidence(records=None, needed=5, **measurements):
    """Evidence on scenes: records, and a table for each measure."""
    records = pd.DataFrame() if records is None else records
    return Evidence("scenes", scenes, needed, records, measurements)


def find(id, evidence, gradient="detached", variant=""):
    """The one finding on a claim under a regime."""
    (found,) = [
        f
        for f in CLAIMS[id].judgements([evidence])
        if (f.gradient, f.variant) == (gradient, variant)
    ]
    return found


def walked(seed=0):
    """A photograph's way through a unit of five bases, three of them in one place."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(5), size=(2, 5, 6)).transpose(0, 3, 1, 2)
    return Walkthrough(
        image=generator.random((40, 48, 3)), mask=np.eye(40, 48, dtype=int),
        classes=("background", "cat"), colors=((0, 0, 0), (9, 9, 9)), products=shares,
        responsibilities=shares, group=np.array([0, 1, 0, 2, 0]),
        features=generator.random((30, 8)), estimate=generator.random((30, 8)),
    )  # fmt: skip

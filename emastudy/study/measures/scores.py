"""Scores under other circumstances than the record's."""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated

from emastudy.datasets import corrupt
from emastudy.engine import MULTI_SCALE, Views, load_dataset, score
from emastudy.engine.diagnostics import iterating
from emastudy.options import NonNegativeInt, Range
from emastudy.study.measures.subject import Row, Subject, evenly_spaced, register


@register("scores")
def scores(
    subject: Subject,
    *,
    iterations: Sequence[NonNegativeInt] = (0,),
    corruptions: Sequence[str] = ("",),
    severities: Sequence[Annotated[int, Range(1, 5)]] = (1, 2, 3, 4, 5),
    splits: Sequence[str] = ("",),
    multi_scale: Sequence[bool] = (False,),
    images: NonNegativeInt = 0,
) -> list[Row]:
    """Scores under other circumstances than the record's: every combination is a row.

    Args:
        iterations: Numbers of EM iterations; 0 = as trained. Others need an EMA unit.
        corruptions: "" (none) and kinds of ``datasets.CORRUPTIONS``.
        severities: 1-5, for the kinds that are not "".
        splits: Splits; "" = the run's own.
        multi_scale: Whether to average over six scales and mirror images.
        images: How many images of each split, evenly spaced; 0 = all.

    Returns:
        Rows with "at.num_iterations", "at.corruption", "at.severity", "at.split",
        "at.multi_scale", "images" (how many), "miou", "pixel_accuracy", "iou", "confusion".
    """
    worse = [("", 0)] * ("" in corruptions)
    worse += itertools.product([kind for kind in corruptions if kind], severities)
    rows = []
    for split in [split or subject.config.eval_split for split in splits]:
        whole = load_dataset(subject.config, split, subject.runtime)
        chosen = evenly_spaced(len(whole), images)
        for (kind, severity), count, many in itertools.product(worse, iterations, multi_scale):
            with iterating(subject.unit, count) if count else nullcontext():
                found = score(
                    subject.network,
                    subject.config,
                    subject.runtime,
                    split=split,
                    indices=chosen,
                    change=partial(corrupt, kind=kind, severity=severity) if kind else None,
                    views=Views(MULTI_SCALE, flip=True) if many else Views(),
                    description=f"{split} {kind} {severity or ''}".strip(),
                )
            rows.append(
                {
                    "at.num_iterations": count,
                    "at.corruption": kind,
                    "at.severity": severity,
                    "at.split": split,
                    "at.multi_scale": many,
                    "images": len(chosen),
                    "miou": found.miou,
                    "pixel_accuracy": found.means["pixel_accuracy"],
                    "iou": found.iou,
                    "confusion": found.confusion.tolist(),
                }
            )
    return rows

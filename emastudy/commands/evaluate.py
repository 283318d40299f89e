"""``emastudy evaluate``: scores of a trained network."""

from pathlib import Path

import tyro

from emastudy.engine import MULTI_SCALE, Views, evaluate, load_network
from emastudy.engine.runtime import ScoringRuntime
from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.submission import VOCSubmission
from emastudy.errors import InputError


def command(
    checkpoint: tyro.conf.Positional[str],
    split: str = "",
    scales: tuple[float, ...] = (1.0,),
    multi_scale: bool = False,
    flip: bool = False,
    window: int = 0,
    boundary: bool = False,
    submit: Path | None = None,
    runtime: ScoringRuntime = ScoringRuntime(),  # noqa: B008 - frozen
) -> None:
    """Score a trained network on a split of the dataset it was trained for.

    For example: emastudy evaluate runs/ID --multi-scale --flip --data-root VOC2012

    Args:
        checkpoint: Folder runs/ID, runs/ID/best (where the run was validated) or
            runs/ID/checkpoint-NNNNNN.
        split: Split to score on; default the run's own.
        scales: Scales of the image to average over.
        multi_scale: Average over the scales 0.5, 0.75, 1, 1.25, 1.5 and 1.75.
        flip: Average over the image and its mirror image, at every scale.
        window: Side of a window that slides over larger images, pixels; 0 = none.
        boundary: Score the classes' borders too.
        submit: Folder for the files of PASCAL VOC's test server: PNGs and a tar to upload.
        runtime: Where to compute.
    """
    if multi_scale and scales != (1.0,):
        raise InputError("scales and multi_scale are both given; choose one")
    views = Views(MULTI_SCALE if multi_scale else scales, flip, window)
    network, manifest = load_network(checkpoint)
    dataset = manifest.load_dataset(split, runtime)
    submission = VOCSubmission(dataset, submit) if submit else None
    scores = evaluate(
        network.to(runtime.start()),
        dataset,
        **runtime.scoring(manifest.config),
        views=views,
        boundary=boundary,
        keep=submission,
    )
    if scores.confusion.any():
        print(metrics.table(scores.iou, scores.means))
    else:
        print("no pixel of this split is labelled: nothing to score")
    if submission:
        print(f"to upload   {submission.finish()}")

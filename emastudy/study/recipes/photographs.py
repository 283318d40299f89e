"""Recipes for photographs that two CPU cores can train."""

from dataclasses import replace

from emastudy.engine import RunConfig
from emastudy.study.recipes.recipe import register

ANIMALS = ("background", "cat", "cow", "dog", "horse", "sheep", "person")


def _photographs(head: str) -> RunConfig:
    """What these recipes share."""
    return RunConfig(
        head=head,
        head_options={"channels": 256},
        backbone="mobilenet_v2",
        pretrained=True,
        output_stride=16,
        eval_output_stride=8,
        bn_momentum=0.03,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop_size=257,
        iterations=500,
    )


@register()
def animals(head: str) -> RunConfig:
    """Photographs of VOC animals: 7 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on trainaug at output stride 16, scores val at stride 8, as the paper does; the other
    14 VOC classes count as ignored, so numbers are not comparable with 21-class tables. Images
    are expected at a longest side of about 320 pixels. Batch norm's running statistics move 100
    times faster than the paper's 3e-4: 500 iterations are a sixtieth of its 30,000.

    Cost: 8 to 20 minutes on one CPU core with bfloat16.
    """
    return replace(
        _photographs(head),
        dataset="voc2012",
        dataset_options={"classes": list(ANIMALS)},
        train_split="trainaug",
    )


@register()
def camvid(head: str) -> RunConfig:
    """Road scenes of CamVid: 11 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on train (367 frames of 480×360) at output stride 16, scores val at stride 8; all else
    as in :func:`animals`. The test split, other sequences than train's, is scored from the
    checkpoint: ``emastudy evaluate runs/ID --split test``.

    Cost: half an hour to an hour on one CPU core with bfloat16.
    """
    return replace(_photographs(head), dataset="camvid")


@register()
def animals_frozen(head: str) -> RunConfig:
    """As ``animals``, but only the head learns: the backbone keeps its ImageNet weights.

    Whole images, padded to 321 pixels a side, and their mirror images; their features are computed
    once for all runs (see ``engine.features``), 2 GB in about five minutes on one CPU core, and
    twice that for heads with a decoder, which read the first feature map as well. 300 iterations
    at the learning rate of ``animals``: by then FCN's loss has levelled off.

    Cost: about a minute on one CPU core with bfloat16, ten or twenty with a decoder.
    """
    return replace(
        animals(head), frozen_backbone=True, scales=(1.0,), crop_size=321, iterations=300
    )


@register()
def camvid_frozen(head: str) -> RunConfig:
    """As ``camvid``, but only the head learns: the backbone keeps its ImageNet weights.

    Whole frames, padded to 481 pixels a side, and their mirror images, as in
    :func:`animals_frozen`; 0.6 GB of features.

    Cost: three to seven minutes on one CPU core with bfloat16.
    """
    return replace(camvid(head), frozen_backbone=True, scales=(1.0,), crop_size=481, iterations=300)

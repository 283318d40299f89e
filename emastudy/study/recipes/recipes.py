"""The study's recipes: functions that return one complete ``RunConfig``.

Floor: study (imports engine and networks).

Every recipe takes ``head``, ``seed`` and ``scale`` (1.0 = as described, smaller = a quick look:
iterations and scored scenes shrink with it) and further options of the head.

The paper's own recipes (``voc_ablation`` and those after it) state what was published and an
estimate of the cost: multiply-adds of all forward passes, as ``engine.cost`` counts them, times
three for forward and backward. A GPU that sustains 25·10¹² of them a second (an assumption, not a
measurement) does 90·10¹⁵ an hour.

They use the deep-stem ResNets of the released code, multi-grid included, since Table 1 counts
those. torchvision has no weights for them: give ``--weights-path`` a state dict of ImageNet weights
with torchvision's names and the stem as conv1.0, conv1.1, conv1.3, conv1.4, conv1.6 and bn1 (see
``networks.backbones.resnet``), or take torchvision's own ResNets with
``--backbone-options deep_stem=false``, which is another run with another id.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from emastudy import networks
from emastudy.engine import RunConfig

ANIMALS = ("background", "cat", "cow", "dog", "horse", "sheep", "person")


def scenes(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Scenes, 8 classes at 64×64, a small ResNet from scratch at stride 4, 300 iterations.

    Needs no data. The head sees 64 channels on a 16×16 map, so EMA's bases default to K = 16
    instead of the paper's 64: the same 16 pixels per basis as 64 bases on a 32×32 map.

    Cost: about half a minute on one CPU core.
    """
    if head == "ema":
        head_options = {"num_bases": 16, **head_options}
    return RunConfig(
        dataset="scenes",
        head=head,
        head_options={"channels": 64, **head_options},
        backbone="small_resnet",
        eval_images=max(4, round(200 * scale)),
        iterations=max(2, round(300 * scale)),
        learning_rate=0.05,
        seed=seed,
    )


def _photographs(
    head: str, seed: int, scale: float, head_options: dict[str, Any], **fields: Any
) -> RunConfig:
    """What the recipes for photographs share that two CPU cores can train."""
    return RunConfig(
        head=head,
        head_options={"channels": 256, **head_options},
        backbone="mobilenet_v2",
        pretrained=True,
        output_stride=16,
        eval_output_stride=8,
        bn_momentum=0.03,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop_size=257,
        iterations=max(2, round(500 * scale)),
        seed=seed,
        **fields,
    )


def animals(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Photographs of VOC animals: 7 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on trainaug at output stride 16, scores val at stride 8, as the paper does; the other
    14 VOC classes count as ignored, so numbers are not comparable with 21-class tables. Images
    are expected at a longest side of about 320 pixels. Batch norm's running statistics move 100
    times faster than the paper's 3e-4: 500 iterations are a sixtieth of its 30,000.

    Cost: about 12 minutes on one CPU core with bfloat16.
    """
    return _photographs(
        head,
        seed,
        scale,
        head_options,
        dataset="voc2012",
        dataset_options={"classes": list(ANIMALS)},
        train_split="trainaug",
    )


def camvid(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Road scenes of CamVid: 11 classes, MobileNetV2 from ImageNet, 500 iterations.

    Trains on train (367 frames of 480×360) at output stride 16, scores val at stride 8; all else
    as in :func:`animals`. The test split, other sequences than train's, is scored from the
    checkpoint: ``emastudy evaluate runs/ID --split test``.

    Cost: about 12 minutes on one CPU core with bfloat16.
    """
    return _photographs(head, seed, scale, head_options, dataset="camvid")


def animals_frozen(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """As ``animals``, but only the head learns: the backbone keeps its ImageNet weights.

    Whole images, padded to 321 pixels a side, and their mirror images; their features are computed
    once for all runs (see ``engine.feature_cache``), 2 GB in about five minutes on one CPU core,
    and twice that for heads with a decoder, which read the first feature map as well. 300
    iterations at the learning rate of ``animals``: by then FCN's loss has levelled off.

    Cost: about a minute on one CPU core with bfloat16, ten with a decoder.
    """
    return replace(
        animals(head, seed=seed, **head_options),
        frozen_backbone=True,
        scales=(1.0,),
        crop_size=321,
        iterations=max(2, round(300 * scale)),
    )


def _paper(head: str, seed: int, scale: float, iterations: int, **fields: Any) -> RunConfig:
    """What all of the paper's recipes share."""
    deep = {"deep_stem": True, "multi_grid": True}
    return RunConfig(
        head=head,
        seed=seed,
        iterations=max(2, round(iterations * scale)),
        **{
            "dataset": "voc2012",
            "backbone": "resnet101",
            "backbone_options": deep,
            "pretrained": True,
            "output_stride": 16,
            "eval_output_stride": 8,
            "bn_momentum": 3e-4,
            "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
            "crop_size": 513,
            "batch_size": 16,
            "learning_rate": 0.009,
            **fields,
        },
    )


def voc_ablation(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """The paper's ablations: VOC, ResNet-50, batch 12, trainaug to val, 30,000 iterations.

    Trains at output stride 16, scores at 8.

    Expected: 78.52 % mIoU at single scale with T = 3 in training and evaluation (Fig. 4, as quoted
    in issue 37 of the released code, whose reporter got 76.04).
    Cost: an estimated 56.5·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_ablation --data-root VOC2012 --weights-path FILE``
    """
    return _paper(
        head,
        seed,
        scale,
        30_000,
        train_split="trainaug",
        head_options=head_options,
        backbone="resnet50",
        batch_size=12,
    )


def voc_val(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """The paper's comparisons on VOC val (Table 1): ResNet-101, batch 16, 30,000 iterations.

    Trains on trainaug at output stride 16, scores val at 8.

    Expected: 80.05 % mIoU at single scale, 81.32 % with multi-scale and flip (Table 1, as in the
    released code's README; a user got 79.44, its issue 22).
    Cost: an estimated 105·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_val --data-root VOC2012 --weights-path FILE``, then
    ``emastudy evaluate runs/ID --multi-scale --flip --data-root VOC2012``
    """
    return _paper(head, seed, scale, 30_000, train_split="trainaug", head_options=head_options)


def voc_val_released(
    head: str = "emanet_released", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """As ``voc_val``, where the released code differs from the paper.

    It trains at output stride 8, averages the loss over all pixels of the crops, and has a 3×3 conv
    of 256 channels behind the unit.

    Expected: 80.50 % mIoU at single scale (the released checkpoint, as measured in its issue 22).
    Cost: an estimated 343·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_val_released --data-root VOC2012 --weights-path FILE``
    """
    return _paper(
        head,
        seed,
        scale,
        30_000,
        train_split="trainaug",
        head_options=head_options,
        output_stride=8,
        loss_over="all",
    )


def voc_test_coco(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """First of three runs for VOC test: COCO, 150,000 iterations at 0.009.

    The paper says "COCO" and not which labels; here they are the 118,287 images of COCO 2017 with
    VOC's 20 classes and all else background, so that the classifier can be kept.

    Expected: no published number.
    Cost: an estimated 525·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_test_coco --data-root COCO --weights-path FILE``
    """
    return _paper(
        head,
        seed,
        scale,
        150_000,
        dataset="coco_stuff_164k",
        dataset_options={"voc": True},
        head_options=head_options,
    )


def voc_test_trainaug(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Second of three runs for VOC test: trainaug, 30,000 iterations at 0.001.

    Starts from ``voc_test_coco`` with the same arguments; after changing that run's fields on the
    command line give its id with ``--start-from``.

    Expected: no published number.
    Cost: an estimated 105·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_test_trainaug --data-root VOC2012``
    """
    before = voc_test_coco(head, seed=seed, scale=scale, **head_options)
    return _paper(
        head,
        seed,
        scale,
        30_000,
        train_split="trainaug",
        head_options=head_options,
        pretrained=False,
        start_from=before.id,
        learning_rate=0.001,
    )


def voc_test(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """Last of three runs for VOC test: trainval, 30,000 iterations at 0.0001.

    Starts from ``voc_test_trainaug`` with the same arguments; after changing that run's fields on
    the command line give its id with ``--start-from``. Its score on val tells nothing, since it
    trains on val; the server scores the test split.

    Expected: 87.7 % mIoU on test with multi-scale and flip; 88.2 % with ``--backbone resnet152`` in
    all three runs (Table 2).
    Cost: an estimated 105·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_test --data-root VOC2012``, then ``emastudy evaluate runs/ID
    --split test --multi-scale --flip --submit FOLDER --data-root VOC2012``
    """
    before = voc_test_trainaug(head, seed=seed, scale=scale, **head_options)
    return _paper(
        head,
        seed,
        scale,
        30_000,
        train_split="trainval",
        head_options=head_options,
        pretrained=False,
        start_from=before.id,
        learning_rate=0.0001,
    )


def pascal_context(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """PASCAL Context (Table 3): 59 classes and background, ResNet-101, 15,000 iterations.

    Trains at output stride 16, scores at 8.

    Expected: 53.1 % mIoU (Table 3).
    Cost: an estimated 52.5·10¹⁵ multiply-adds.
    Command: ``emastudy train pascal_context --data-root VOC2010 --weights-path FILE``
    """
    return _paper(
        head,
        seed,
        scale,
        15_000,
        dataset="pascal_context",
        dataset_options={"background": True},
        head_options=head_options,
    )


def coco_stuff(
    head: str = "ema", *, seed: int = 0, scale: float = 1.0, **head_options: Any
) -> RunConfig:
    """COCO Stuff 10k (Table 4): 171 classes, ResNet-101, 30,000 iterations.

    Trains and scores at output stride 8.

    Expected: 39.9 % mIoU (Table 4; a user with a batch of 3 got 34.55, issue 23 of the released
    code).
    Cost: an estimated 336·10¹⁵ multiply-adds.
    Command: ``emastudy train coco_stuff --data-root COCOStuff --weights-path FILE``
    """
    return _paper(
        head,
        seed,
        scale,
        30_000,
        dataset="coco_stuff",
        head_options=head_options,
        output_stride=8,
    )


def table1_network() -> RunConfig:
    """The EMANet (512) of Table 1, whose time is measured: "trained" for one step on scenes.

    ResNet-101 with deep stem at output stride 8. Time does not depend on the weights.
    """
    return RunConfig(
        head="ema",
        backbone="resnet101",
        backbone_options={"deep_stem": True},
        output_stride=8,
        eval_output_stride=8,
        eval_images=4,
        batch_size=2,
        iterations=1,
    )


#: The recipes by the name that notebooks and commands use.
PROTOCOLS: dict[str, Callable[..., RunConfig]] = {
    "scenes": scenes,
    "animals": animals,
    "camvid": camvid,
    "animals_frozen": animals_frozen,
    "voc_ablation": voc_ablation,
    "voc_val": voc_val,
    "voc_val_released": voc_val_released,
    "voc_test_coco": voc_test_coco,
    "voc_test_trainaug": voc_test_trainaug,
    "voc_test": voc_test,
    "pascal_context": pascal_context,
    "coco_stuff": coco_stuff,
}


def recipe(name: str, backbone: str = "") -> Callable[..., RunConfig]:
    """A recipe by its name, on another backbone if one is named.

    Everything else stays as the recipe has it, but for options of its backbone that the other one
    lacks.

    Raises:
        ValueError: Unknown recipe or backbone.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(PROTOCOLS)}")
    found = PROTOCOLS[name]
    if not backbone:
        return found
    known = networks.backbone_defaults(backbone)

    def on_another_backbone(*args: Any, **options: Any) -> RunConfig:
        config = found(*args, **options)
        kept = {k: v for k, v in config.backbone_options.items() if k in known}
        return replace(config, backbone=backbone, backbone_options=kept)

    return on_another_backbone


def grid(
    protocol: str,
    head: str = "ema",
    *,
    seeds: int,
    scale: float = 1.0,
    backbone: str = "",
    **axes: Iterable[Any],
) -> list[RunConfig]:
    """Every combination of a recipe's options, with every seed.

    Args:
        protocol: Name of a recipe.
        head: Name of the head.
        seeds: How many seeds, counted from 0.
        scale: Of the recipe.
        backbone: Another than the recipe's; "" = the recipe's.
        axes: Option of the head → the values it takes.

    Raises:
        ValueError: Unknown recipe or backbone.
    """
    make = recipe(protocol, backbone)
    return [
        make(head, seed=seed, scale=scale, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
        for seed in range(seeds)
    ]

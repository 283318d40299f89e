"""The paper's own recipes.

Each states what was published and an estimate of the cost: multiply-adds of all forward passes, as
``engine.cost`` counts them, times three for forward and backward. ``tables.estimate`` makes hours
and memory of them.

They use the deep-stem ResNets of the released code, multi-grid included, since Table 1 counts
those. torchvision has no weights for them: give ``--weights-path`` a state dict of ImageNet weights
with torchvision's names and the stem as conv1.0, conv1.1, conv1.3, conv1.4, conv1.6 and bn1 (see
``networks.backbones.resnet``), or take torchvision's own ResNets with
``--backbone-options deep_stem=false``, which is another run with another id.
"""

from dataclasses import replace

from emastudy.engine import RunConfig
from emastudy.study.recipes.recipe import register

#: These recipes, and the number of classes of each one's dataset.
PAPER_CLASSES = {
    **dict.fromkeys(("voc_ablation", "voc_val", "voc_val_released"), 21),
    **dict.fromkeys(("voc_test_coco", "voc_test_trainaug", "voc_test"), 21),
    "pascal_context": 60,
    "coco_stuff": 171,
}


def _paper(head: str) -> RunConfig:
    """What these recipes share."""
    return RunConfig(
        dataset="voc2012",
        head=head,
        backbone="resnet101",
        backbone_options={"deep_stem": True, "multi_grid": True},
        pretrained=True,
        output_stride=16,
        eval_output_stride=8,
        bn_momentum=3e-4,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop_size=513,
        batch_size=16,
        iterations=30_000,
        learning_rate=0.009,
    )


@register()
def voc_ablation(head: str) -> RunConfig:
    """The paper's ablations: VOC, ResNet-50, batch 12, trainaug to val, 30,000 iterations.

    Trains at output stride 16, scores at 8.

    Expected: 78.52 % mIoU at single scale with T = 3 in training and evaluation (Fig. 4, as quoted
    in issue 37 of the released code, whose reporter got 76.04).
    Cost: an estimated 56.5·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_ablation --data-root VOC2012 --weights-path FILE``
    """
    return replace(_paper(head), train_split="trainaug", backbone="resnet50", batch_size=12)


@register()
def voc_val(head: str) -> RunConfig:
    """The paper's comparisons on VOC val (Table 1): ResNet-101, batch 16, 30,000 iterations.

    Trains on trainaug at output stride 16, scores val at 8.

    Expected: 80.05 % mIoU at single scale, 81.32 % with multi-scale and flip (Table 1, as in the
    released code's README; a user got 79.44, its issue 22).
    Cost: an estimated 105·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_val --data-root VOC2012 --weights-path FILE``, then
    ``emastudy evaluate runs/ID --multi-scale --flip --data-root VOC2012``
    """
    return replace(_paper(head), train_split="trainaug")


@register("emanet_released")
def voc_val_released(head: str) -> RunConfig:
    """As ``voc_val``, where the released code differs from the paper.

    It trains at output stride 8, averages the loss over all pixels of the crops, and has a 3×3 conv
    of 256 channels behind the unit.

    Expected: 80.50 % mIoU at single scale (the released checkpoint, as measured in its issue 22).
    Cost: an estimated 343·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_val_released --data-root VOC2012 --weights-path FILE``
    """
    return replace(_paper(head), train_split="trainaug", output_stride=8, loss_over="all")


@register()
def voc_test_coco(head: str) -> RunConfig:
    """First of three runs for VOC test: COCO, 150,000 iterations at 0.009.

    The paper says "COCO" and not which labels; here they are the 118,287 images of COCO 2017 with
    VOC's 20 classes and all else background, so that the classifier can be kept.

    Expected: no published number.
    Cost: an estimated 525·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_test_coco --data-root COCO --weights-path FILE``
    """
    return replace(
        _paper(head), dataset="coco_stuff_164k", dataset_options={"voc": True}, iterations=150_000
    )


@register(after=voc_test_coco)
def voc_test_trainaug(head: str) -> RunConfig:
    """Second of three runs for VOC test: trainaug, 30,000 iterations at 0.001.

    Starts from ``voc_test_coco`` with the same arguments; after changing that run's fields on the
    command line give its id with ``--start-from``.

    Expected: no published number.
    Cost: an estimated 105·10¹⁵ multiply-adds.
    Command: ``emastudy train voc_test_trainaug --data-root VOC2012``
    """
    return replace(_paper(head), train_split="trainaug", pretrained=False, learning_rate=0.001)


@register(after=voc_test_trainaug)
def voc_test(head: str) -> RunConfig:
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
    return replace(_paper(head), train_split="trainval", pretrained=False, learning_rate=0.0001)


@register()
def pascal_context(head: str) -> RunConfig:
    """PASCAL Context (Table 3): 59 classes and background, ResNet-101, 15,000 iterations.

    Trains at output stride 16, scores at 8.

    Expected: 53.1 % mIoU (Table 3).
    Cost: an estimated 52.5·10¹⁵ multiply-adds.
    Command: ``emastudy train pascal_context --data-root VOC2010 --weights-path FILE``
    """
    return replace(
        _paper(head),
        dataset="pascal_context",
        dataset_options={"background": True},
        iterations=15_000,
    )


@register()
def coco_stuff(head: str) -> RunConfig:
    """COCO Stuff 10k (Table 4): 171 classes, ResNet-101, 30,000 iterations.

    Trains and scores at output stride 8.

    Expected: 39.9 % mIoU (Table 4; a user with a batch of 3 got 34.55, issue 23 of the released
    code).
    Cost: an estimated 336·10¹⁵ multiply-adds.
    Command: ``emastudy train coco_stuff --data-root COCOStuff --weights-path FILE``
    """
    return replace(_paper(head), dataset="coco_stuff", output_stride=8)


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

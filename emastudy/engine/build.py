"""From a config to what it describes: dataset and network."""

from pathlib import Path
from typing import Any

from emastudy import datasets, networks
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import Runtime


def load_dataset(config: RunConfig, split: str, runtime: Runtime) -> datasets.SegmentationDataset:
    """The dataset of one split."""
    options: dict[str, Any] = dict(config.dataset_options)
    if config.eval_images and split != config.train_split:
        options["num_images"] = config.eval_images
    return datasets.load(config.dataset, split, root=runtime.data_root or None, **options)


def build_network(
    config: RunConfig, num_classes: int, weights: str | Path | None = None
) -> networks.SegmentationNetwork:
    """The network, its backbone filled from ``weights`` (see ``networks.build``)."""
    options: dict[str, Any] = dict(config.head_options)
    network = networks.build(
        config.head,
        backbone=config.backbone,
        num_classes=num_classes,
        output_stride=config.output_stride,
        weights=weights,
        bn_momentum=config.bn_momentum,
        backbone_options=config.backbone_options,
        **options,
    )
    network.backbone.requires_grad_(not config.frozen_backbone)
    return network

"""From a config to what it describes: dataset, network, optimiser, accelerator."""

import dataclasses
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import GradientAccumulationPlugin
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from emastudy import datasets, networks
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import Runtime, ScoringRuntime
from emastudy.errors import InputError, UnknownSplitError


def load_dataset(
    config: RunConfig, split: str, runtime: ScoringRuntime, *, option: str = ""
) -> datasets.SegmentationDataset:
    """The dataset of one split.

    Args:
        option: What the split was named with, for the message; "" = the config's field.

    Raises:
        InputError: Of those of ``datasets.load``; or ``eval_images`` names a number, and the
            dataset has one of its own.
        UnknownSplitError: There is no such split; the message names the option.
    """
    config.check_sources(config.dataset)
    options: dict[str, Any] = dict(config.dataset_options)
    if config.eval_images:
        if "num_images" not in inspect.signature(datasets.find(config.dataset)).parameters:
            raise InputError(
                f"eval_images is {config.eval_images}, and dataset {config.dataset!r} has as many "
                "images as it has: say eval_images=0 (--eval-images 0 for the command) to score "
                f"on all of split {config.eval_split!r}"
            )
        if split != config.train_split:
            options["num_images"] = config.eval_images
    try:
        return datasets.load(config.dataset, split, root=runtime.data_root or None, **options)
    except UnknownSplitError as error:
        option = option or ("train_split" if split == config.train_split else "eval_split")
        raise UnknownSplitError(
            f"{error}. Choose with {option} (--{option.replace('_', '-')} for the command)"
        ) from None


def data_seen(dataset: datasets.SegmentationDataset) -> dict[str, Any]:
    """The fingerprint that is kept with a run; empty for data that are drawn as the config says."""
    if isinstance(dataset, datasets.Scenes):
        return {}
    return dataclasses.asdict(dataset.fingerprint())


def build_network(
    config: RunConfig, num_classes: int, weights: str | Path | None = None
) -> networks.SegmentationNetwork:
    """The network, its backbone filled from ``weights`` (see ``networks.build``)."""
    config.check_sources(config.head, config.backbone)
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


def build_optimizer(network: nn.Module, config: RunConfig) -> tuple[torch.optim.SGD, LambdaLR]:
    """SGD with the paper's groups, see :func:`parameter_groups`, and the poly schedule."""
    optimizer = torch.optim.SGD(
        parameter_groups(network, config.learning_rate, config.weight_decay),
        lr=config.learning_rate,
        momentum=config.momentum,
    )
    schedule = LambdaLR(optimizer, lambda it: (1 - it / config.iterations) ** config.poly_power)
    return optimizer, schedule


def parameter_groups(
    network: nn.Module, learning_rate: float, weight_decay: float
) -> list[dict[str, object]]:
    """SGD's groups: weights decay, norms do not, biases learn twice as fast and do not.

    "Weights" are tensors of two or more dimensions (convolutions, learnt EMA bases); "biases" are
    those of convolutions and norms alike. Frozen parameters are in no group.

    Source: the released code.
    """
    learnt = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    weights = [p for _, p in learnt if p.ndim > 1]
    norms = [p for name, p in learnt if p.ndim <= 1 and not name.endswith("bias")]
    biases = [p for name, p in learnt if p.ndim <= 1 and name.endswith("bias")]
    return [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": norms, "lr": learning_rate, "weight_decay": 0.0},
        {"params": biases, "lr": 2 * learning_rate, "weight_decay": 0.0},
    ]


def build_accelerator(config: RunConfig, runtime: Runtime) -> Accelerator:
    """Accelerate's handle on device, precision and the other processes of the run.

    Raises:
        InputError: The config wants float16 and there is no GPU; or TensorBoard cannot write in a
            folder of that name under this locale.
    """
    folder = runtime.run_dir(config)
    if os.fsencode(folder) != str(folder).encode(errors="replace"):
        # TensorBoard takes its path for UTF-8, and would write into a folder of another name.
        raise InputError(
            f"the folder of runs, {str(folder)!r}, has letters that the locale "
            f"({sys.getfilesystemencoding()}) does not write as UTF-8: set PYTHONUTF8=1, or "
            "LC_ALL=C.UTF-8, or choose a runs_dir of plain letters (--runs-dir for the command)"
        )
    precision = runtime.choose_precision(config).precision
    if precision == "fp16" and not runtime.has_gpu:
        raise InputError("precision is 'fp16', which wants a GPU; use 'bf16' or 'float32' on a CPU")
    return Accelerator(
        cpu=not runtime.has_gpu,  # Accelerate takes one process for none where it finds no device
        mixed_precision="no" if precision == "float32" else precision,
        dynamo_backend="inductor" if runtime.compile else "no",
        # Without these two a launcher's settings would divide the loss once more, and several
        # processes would step the schedule several times.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        log_with="tensorboard",
        project_dir=folder,
    )

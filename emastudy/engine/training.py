"""Training: SGD with the paper's groups and schedule, on Accelerate, with exact resume.

Floor: engine.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from emastudy.datasets import IGNORE, TrainingStream, training_transform
from emastudy.engine import checkpoints, feature_cache
from emastudy.engine.config import RunConfig, Runtime
from emastudy.engine.throughput import Timed
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

# Iterations between two looks at the loss: finite? TensorBoard, curve, progress bar.
_LOOK_EVERY = 10


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message has iteration and config."""


@dataclass(frozen=True)
class Training:
    """What a finished training run hands on.

    Attributes:
        network: The trained network, on its device.
        classes: Class names, in the order of the logits.
        curves: "loss" and "learning_rate" as lists of (iteration, value); the loss is the mean
            over the iterations since the entry before.
        seconds: Time spent training, interrupted stretches added up.
        resumed_from: Iteration at which this call took over, 0 for a run from scratch.
    """

    network: SegmentationNetwork
    classes: tuple[str, ...]
    curves: dict[str, list[tuple[int, float]]]
    seconds: float
    resumed_from: int


def train(config: RunConfig, runtime: Runtime = Runtime()) -> Training:  # noqa: B008 - frozen
    """Train a network, going on from the run's newest checkpoint where there is one.

    Args:
        config: The run.
        runtime: Where it happens.

    Returns:
        The network and the course of its training. A run that was complete is only loaded.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite. Checkpoints from before remain.
        ValueError, FileNotFoundError: Config or data are at fault; the message says how.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    run_dir = runtime.run_dir(config)
    # Accelerate keeps the precision of the process's first run for ever; runs here may differ.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=runtime.device == "cpu",
        mixed_precision="bf16" if runtime.use_bf16(config) else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        log_with="tensorboard",
        project_dir=run_dir,
    )
    dataset = config.load_dataset(config.train_split, runtime)
    set_seed(config.seed)
    checkpoint = checkpoints.newest(run_dir)
    pretrained = config.pretrained and checkpoint is None
    network = config.build_network(
        len(dataset.classes), (runtime.weights_path or "imagenet") if pretrained else None
    ).to(memory_format=torch.channels_last)
    if config.start_from and checkpoint is None:
        checkpoints.start_from(network, Path(runtime.runs_dir) / config.start_from)
    bare = network
    optimizer = torch.optim.SGD(
        parameter_groups(network, config.learning_rate, config.weight_decay),
        lr=config.learning_rate,
        momentum=config.momentum,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda it: (1 - it / config.iterations) ** config.poly_power
    )
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)

    start, before = 0, 0.0
    curves: dict[str, list[tuple[int, float]]] = {"loss": [], "learning_rate": []}
    if checkpoint:
        folder, manifest = checkpoint
        accelerator.load_state(str(folder))
        start, before, curves = manifest.iteration, manifest.seconds, manifest.curves
        logger.info("%s: goes on from iteration %d", config.id, start)

    if start < config.iterations:
        source: Dataset[Any] = dataset
        transform: Callable[..., Any] = training_transform(
            dataset, scales=config.scales, crop_size=config.crop_size
        )
        if config.frozen_backbone:
            source = feature_cache.training_features(bare, config, runtime)
            transform = feature_cache.either_view
        stream = TrainingStream(
            source,
            transform,
            seed=config.seed,
            start=start * config.batch_size,
            stop=config.iterations * config.batch_size,
        )
        loader = accelerator.prepare(
            DataLoader(
                stream,
                batch_size=config.batch_size,
                num_workers=runtime.workers,
                # A loader draws a seed when its iteration begins. Not from the global stream:
                # a resumed run would then meet other dropout masks than an uninterrupted one.
                generator=torch.Generator().manual_seed(config.seed),
            )
        )
        accelerator.init_trackers("tensorboard")
        began = saved = time.monotonic()
        recent: list[Tensor] = []
        network.train()
        bar = tqdm(
            total=config.iterations,
            initial=start,
            desc=config.id,
            unit="it",
            disable=not accelerator.is_main_process,
        )
        batches = Timed(loader)
        for iteration, (image, mask) in enumerate(batches, start + 1):
            image = _channels_last(image)
            loss = segmentation_loss(network(image), mask, config.loss_over)  # under autocast
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            recent.append(loss.detach())
            bar.update()
            done = iteration == config.iterations
            if iteration % _LOOK_EVERY and not done:
                continue
            mean = _checked_mean(accelerator, recent, iteration, config)
            recent = []
            values = {"loss": mean, "learning_rate": schedule.get_last_lr()[0]}
            for name, value in values.items():
                curves[name].append((iteration, value))
            accelerator.log(values, step=iteration)
            bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
            if done or time.monotonic() - saved >= runtime.checkpoint_seconds:
                seconds = before + time.monotonic() - began
                checkpoints.save(
                    accelerator,
                    run_dir,
                    checkpoints.Manifest(config, dataset.classes, iteration, curves, seconds, {}),
                )
                saved = time.monotonic()
        bar.close()
        logger.info("%s: %s", config.id, batches.summary(config.batch_size))
        before += time.monotonic() - began
        accelerator.end_training()
    network = accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # autocast off again
    return Training(network, dataset.classes, curves, before, start)


def segmentation_loss(
    logits: Tensor, mask: Tensor, over: Literal["labelled", "all"] = "labelled"
) -> Tensor:
    """Cross-entropy averaged over the pixels that are not ignored; 0 where all are.

    Args:
        logits: (B, C, H, W); if smaller than the mask they are upsampled bilinearly with aligned
            corners, as the network does.
        mask: (B, H, W) int64, 255 = ignored.
        over: "all" divides by the number of all pixels instead, as the released code does.
    """
    if logits.shape[-2:] == mask.shape[-2:]:
        total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
    else:
        # Image by image, so that the large maps stay in the processor's caches, and with bilinear
        # interpolation as the two small matrix products that it is: three times as fast.
        rows, columns = (
            _enlargement(n, m, logits)
            for n, m in zip(logits.shape[2:], mask.shape[1:], strict=True)
        )
        total = logits.new_zeros(())
        for small, labels in zip(logits.contiguous(), mask, strict=True):
            large = (rows @ small @ columns.mT)[None]
            total = total + F.cross_entropy(
                large, labels[None], ignore_index=IGNORE, reduction="sum"
            )
    return total / (mask.numel() if over == "all" else (mask != IGNORE).sum().clamp_min(1))


def _enlargement(n: int, m: int, like: Tensor) -> Tensor:
    """(m, n): linear interpolation with aligned corners from n samples to m, as a matrix."""
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], size=m, mode="linear", align_corners=True)[0].mT


def parameter_groups(
    network: nn.Module, learning_rate: float, weight_decay: float
) -> list[dict[str, object]]:
    """SGD's groups: weights decay, norms do not, biases learn twice as fast and do not.

    "Weights" are tensors of two or more dimensions (convolutions, learnt EMA bases); "biases" are
    those of convolutions and norms alike. Frozen parameters are in no group.

    Source: the released code.
    """
    weights, norms, biases = [], [], []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1:
            weights.append(parameter)
        elif name.endswith("bias"):
            biases.append(parameter)
        else:
            norms.append(parameter)
    return [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": norms, "lr": learning_rate, "weight_decay": 0.0},
        {"params": biases, "lr": 2 * learning_rate, "weight_decay": 0.0},
    ]


def _channels_last(x: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Images, or lists of feature maps, in the memory format that convolutions are fastest in."""
    if isinstance(x, Tensor):
        return x.contiguous(memory_format=torch.channels_last)
    return [maps.contiguous(memory_format=torch.channels_last) for maps in x]


def _checked_mean(
    accelerator: Accelerator, losses: list[Tensor], iteration: int, config: RunConfig
) -> float:
    """Mean of the recent losses over all processes; raises where one is not finite."""
    values = accelerator.gather(torch.stack(losses)).view(-1, len(losses)).mean(dim=0)
    if not values.isfinite().all():
        first = iteration - len(losses) + 1 + int((~values.isfinite()).int().argmax())
        raise NonFiniteLossError(
            f"the loss became {values[~values.isfinite()][0].item()} at iteration {first} of run "
            f"{config.id}; checkpoints from before are kept. Lower the learning rate "
            f"({config.learning_rate}) or look at the data. Config: {config.canonical_json()}"
        )
    return float(values.mean())

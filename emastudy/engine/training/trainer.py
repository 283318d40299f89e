"""Training: SGD with the paper's groups and schedule, on Accelerate, with exact resume.

Floor: engine.

One iteration is one batch, however ``division`` divides it. What stops a run from outside is
``interruption``'s.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, set_seed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from emastudy.datasets import SegmentationDataset, TrainingStream, training_transform
from emastudy.engine import checkpoints
from emastudy.engine.build import build_network, load_dataset
from emastudy.engine.config import RunConfig
from emastudy.engine.features import cache as feature_cache
from emastudy.engine.runtime import Runtime
from emastudy.engine.scoring.evaluate import evaluate
from emastudy.engine.training import parallel as division
from emastudy.engine.training.history import (
    Course,
    check_weights,
    gradient_norm,
    watched_parameters,
)
from emastudy.engine.training.signals import Interruption, explained, ignore_signals, leave
from emastudy.engine.training.throughput import Timed
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

# Iterations between two looks at the loss: finite? TensorBoard, curve, progress bar.
_LOOK_EVERY = 10
# Name of the curve that says which checkpoint is the best.
_VALIDATION = "validation_miou"


@dataclass(frozen=True)
class Training:
    """What a finished training run hands on.

    Attributes:
        network: The trained network, on its device.
        classes: Class names, in the order of the logits.
        curves: Lists of (iteration, value). "loss", "learning_rate" and, where EMA's bases or the
            first conv of its unit get gradients, "bases_gradient" and "conv1_gradient", their
            Euclidean norms: each but the rate is the mean over the iterations since the entry
            before. "validation_miou", percent, where the runtime asks for it.
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

    Started in several processes (``torchrun``, ``accelerate launch``, ``notebook_launcher``), all
    of them share the one run, with the numbers of one process up to rounding and two exceptions:
    batch norm that is not frozen, on CPUs (``division.for_several_processes``) or with
    ``images_per_step`` (``division.OneUpdate``); and dropout, of which each process draws its own
    masks. Data order and augmentation are the same at any division. A run may be resumed by another
    number of processes.

    On SIGTERM or SIGINT the iteration is finished (by several processes: at most ten more, until
    all have agreed), a checkpoint written, and the process left with status 143 or by a
    KeyboardInterrupt. A second SIGINT ends one process at once, without a checkpoint.

    Args:
        config: The run.
        runtime: Where it happens.

    Returns:
        The network and the course of its training. A run that was complete is only loaded.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite. Checkpoints from before remain.
        CheckpointError: The run's folder cannot be written. Checkpoints from before remain.
        ValueError, FileNotFoundError: Config or data are at fault; the message says how.
        RuntimeError: A process that loads data died.
    """
    AcceleratorState._reset_state()  # it keeps a process' first precision; runs here may differ
    accelerator = _accelerator(config, runtime)
    try:
        return _train(config, runtime, accelerator)
    finally:
        # notebook_launcher refuses to start, or starts strangers to each other, where a run of one
        # process has left its state. Several processes keep theirs: it has their connection.
        AcceleratorState._reset_state(reset_partial_state=accelerator.num_processes == 1)


def _accelerator(config: RunConfig, runtime: Runtime) -> Accelerator:
    precision = runtime.precision(config)
    if precision == "fp16" and (runtime.device == "cpu" or not torch.accelerator.is_available()):
        raise ValueError("precision is 'fp16', which wants a GPU; use 'bf16' or 'float32' on a CPU")
    return Accelerator(
        cpu=runtime.device == "cpu",
        mixed_precision="no" if precision == "float32" else precision,
        dynamo_backend="inductor" if runtime.compile else "no",
        # Without these two a launcher's settings would divide the loss once more, and several
        # processes would step the schedule several times.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        log_with="tensorboard",
        project_dir=runtime.run_dir(config),
    )


def _train(config: RunConfig, runtime: Runtime, accelerator: Accelerator) -> Training:
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    run_dir = runtime.run_dir(config)
    dataset = load_dataset(config, config.train_split, runtime)
    set_seed(config.seed)
    checkpoint = checkpoints.newest(run_dir)
    pretrained = config.pretrained and checkpoint is None
    network = build_network(
        config, len(dataset.classes), (runtime.weights_path or "imagenet") if pretrained else None
    ).to(memory_format=torch.channels_last)
    if config.start_from and checkpoint is None:
        checkpoints.start_from(network, Path(runtime.runs_dir) / config.start_from)
    if accelerator.num_processes > 1:
        division.for_several_processes(network, config, accelerator)
    optimizer = torch.optim.SGD(
        parameter_groups(network, config.learning_rate, config.weight_decay),
        lr=config.learning_rate,
        momentum=config.momentum,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda it: (1 - it / config.iterations) ** config.poly_power
    )
    bare = network
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)
    checkpoints.save_bare(accelerator, bare)

    start, before = 0, 0.0
    course = Course(config)
    if checkpoint:
        folder, manifest = checkpoint
        accelerator.load_state(str(folder))
        start, before = manifest.iteration, manifest.seconds
        course = Course(config, manifest, accelerator.device)
        if accelerator.is_main_process:
            logger.info("%s: goes on from iteration %d", config.id, start)

    if start < config.iterations:
        if accelerator.is_main_process:
            checkpoints.check_writable(run_dir)
        loader, sizes = _loader(bare, dataset, config, runtime, accelerator, start)
        watched = watched_parameters(bare)
        began = saved = time.monotonic()
        _training_mode(network, config)
        alone = accelerator.num_processes == 1
        stop, folder = None, run_dir
        # A launcher hands on a Ctrl-C that its processes have already got from the terminal.
        with (
            explained(config, runtime),
            _tensorboard(accelerator),
            Interruption(patient=not alone) as interruption,
            tqdm(
                total=config.iterations,
                initial=start,
                desc=config.id,
                unit="it",
                disable=not accelerator.is_main_process,
            ) as bar,
        ):
            timed = Timed(loader)
            batches = iter(timed)
            for iteration in range(start + 1, config.iterations + 1):
                parts = [next(batches) for _ in sizes]
                loss = division.backward(accelerator, network, parts, sizes, over=config.loss_over)
                course.note("loss", loss)
                accelerator.unscale_gradients()  # does something under fp16 alone
                norms = {name: gradient_norm(weights) for name, weights in watched.items()}
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                if not accelerator.optimizer_step_was_skipped:  # fp16 had overflowed
                    for name, norm in norms.items():
                        course.note(name, norm)
                bar.update()

                done = iteration == config.iterations
                look = done or iteration % _LOOK_EVERY == 0
                validate = runtime.validate_every > 0 and (
                    done or iteration % runtime.validate_every == 0
                )
                # One process heeds a signal at once, several do when they look.
                if not (look or validate or (alone and interruption.signal)):
                    continue
                course.check(iteration)
                values = {}
                if look:
                    values = {**course.means(), "learning_rate": schedule.get_last_lr()[0]}
                    bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                best = False
                if validate:
                    values[_VALIDATION] = _validate(accelerator, network, bare, config, runtime)
                    best = values[_VALIDATION] > course.highest(_VALIDATION)
                course.add(iteration, values)
                accelerator.log(values, step=iteration)
                due = look and time.monotonic() - saved >= runtime.checkpoint_seconds
                stop, due = _agree(accelerator, interruption.signal, due)
                if done or due or best or stop:
                    check_weights(bare, iteration, config)
                    folder = checkpoints.save(
                        accelerator,
                        run_dir,
                        checkpoints.Manifest(
                            config,
                            dataset.classes,
                            tuple(dataset.palette(dataset.classes)),
                            iteration,
                            course.curves,
                            before + time.monotonic() - began,
                            course.pending(),
                        ),
                        keep=runtime.keep_checkpoints,
                        best=best,
                    )
                    saved = time.monotonic()
                if stop:
                    break
        before += time.monotonic() - began
        if accelerator.is_main_process:
            logger.info("%s: %s", config.id, timed.summary(config.batch_size / len(sizes)))
        stop = stop or interruption.signal
        if stop:
            message = (
                f"run {config.id} was stopped by {stop.name} after iteration {iteration} of "
                f"{config.iterations}; start it again and it goes on from {folder}"
            )
            logger.warning(message)
            leave(stop, message)
    network = accelerator.unwrap_model(bare, keep_fp32_wrapper=False)  # autocast off again
    return Training(network, dataset.classes, course.curves, before, start)


@contextmanager
def _tensorboard(accelerator: Accelerator) -> Iterator[None]:
    """Keep the log open; after an error close it without a further one."""
    accelerator.init_trackers("tensorboard")
    try:
        yield
    except BaseException:
        for tracker in accelerator.trackers:
            with suppress(OSError):
                tracker.finish()
        raise
    for tracker in accelerator.trackers:
        tracker.finish()


def _loader(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    config: RunConfig,
    runtime: Runtime,
    accelerator: Accelerator,
    start: int,
) -> tuple[DataLoader[Any], list[int]]:
    """This process' parts of all batches to come, and how many images a batch's parts have."""
    share = division.Share(
        config.iterations - start,
        config.batch_size,
        runtime.images_per_step,
        accelerator.num_processes,
        accelerator.process_index,
    )
    source: Dataset[Any] = dataset
    transform: Callable[..., Any] = training_transform(
        dataset, scales=config.scales, crop_size=config.crop_size
    )
    if config.frozen_backbone:
        source = feature_cache.training_features(network, config, runtime)
        transform = feature_cache.either_view
    stream = TrainingStream(
        source,
        transform,
        seed=config.seed,
        start=start * config.batch_size,
        stop=config.iterations * config.batch_size,
    )
    loader = DataLoader(
        stream,
        batch_sampler=share,
        num_workers=runtime.workers,
        worker_init_fn=ignore_signals,
        pin_memory=accelerator.device.type == "cuda",
        # A loader draws a seed when its iteration begins. Not from the global stream:
        # a resumed run would then meet other dropout masks than an uninterrupted one.
        generator=torch.Generator().manual_seed(config.seed),
    )
    return loader, share.sizes


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


def _training_mode(network: nn.Module, config: RunConfig) -> None:
    network.train()
    if config.freeze_bn:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _validate(
    accelerator: Accelerator,
    network: nn.Module,
    bare: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
) -> float:
    """MIoU, percent, on the split that the run is scored on; training does not notice."""
    dataset = feature_cache.evaluation_data(bare, config, runtime)
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):  # a loader draws a seed, and dropout must not see it
        scores = evaluate(bare, dataset, **runtime.scoring(config), description="validate")
    return scores.miou


def _agree(
    accelerator: Accelerator, received: Signals | None, due: bool
) -> tuple[Signals | None, bool]:
    """What all processes do next: the signal that one of them got, and what the main one says."""
    flags = [received == SIGINT, received == SIGTERM, due and accelerator.is_main_process]
    total: Tensor = accelerator.reduce(torch.tensor(flags, device=accelerator.device).long())
    sigint, sigterm, save = total.tolist()
    return SIGINT if sigint else SIGTERM if sigterm else None, bool(save)

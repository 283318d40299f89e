"""Training: SGD with the paper's groups and schedule, on Accelerate, with exact resume.

One iteration is one batch, see ``parallel`` for how it is divided and ``signals`` for what may stop
a run from outside.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from emastudy.datasets import TrainingStream, learnable, misalignment, require_same
from emastudy.engine import checkpoints
from emastudy.engine.build import (
    build_accelerator,
    build_network,
    build_optimizer,
    data_seen,
    load_dataset,
)
from emastudy.engine.config import RunConfig
from emastudy.engine.features import trained_part, training_samples
from emastudy.engine.loading import Loader
from emastudy.engine.runtime import OTHER_RUNS_DIR, Runtime
from emastudy.engine.scoring import score
from emastudy.engine.training.history import (
    History,
    check_weights,
    gradient_norm,
    watched_parameters,
)
from emastudy.engine.training.parallel import BatchShare, backward, for_several_processes
from emastudy.engine.training.random_states import watch_random_states
from emastudy.engine.training.signals import Interruption, exit_as_signalled, translate_errors
from emastudy.engine.training.throughput import Timed
from emastudy.files import check_writable
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

# Name of the curve that says which checkpoint is the best.
_VALIDATION = "validation_miou"


@dataclass(frozen=True)
class Training:
    """What a finished training run returns."""

    network: SegmentationNetwork
    classes: tuple[str, ...]  #: Class names, in the order of the logits.
    #: Lists of (iteration, value). "loss", "learning_rate" and, where EMA's bases or the first conv
    #: of its unit get gradients, "bases_gradient" and "conv1_gradient", their Euclidean norms: each
    #: but the rate is the mean over the iterations since the entry before. "validation_miou",
    #: percent, where the runtime asks for it.
    curves: dict[str, list[tuple[int, float]]]
    seconds: float  #: Time spent training, interrupted stretches added up.
    resumed_from: int  #: Iteration that this call started at, 0 for a run from scratch.


def train(config: RunConfig, runtime: Runtime = Runtime()) -> Training:  # noqa: B008 - frozen
    """Train a network, resuming from the run's newest checkpoint where there is one.

    Started in several processes (``torchrun``, ``accelerate launch``, ``notebook_launcher``), all
    of them share the one run, with the numbers of one process up to rounding and two exceptions:
    batch norm that is not frozen, on CPUs (``parallel.for_several_processes``) or with
    ``images_per_step`` (``parallel.BufferAverage``); and dropout, of which each process draws its
    own masks. Data order and augmentation are the same at any division. A run may be resumed by
    another number of processes.

    On SIGTERM or SIGINT the iteration is finished (by several processes: at most ten more, until
    all have agreed), a checkpoint written, and the process left with status 143 or by a
    KeyboardInterrupt. A second SIGINT ends one process at once, without a checkpoint.

    Returns:
        The network and the history of its training. A run that was complete is only loaded.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite. Earlier checkpoints are kept.
        WriteError: The run's folder cannot be written; nothing has been trained.
        CheckpointError: It could no longer be written. Earlier checkpoints are kept.
        InputError, MissingFileError: Config or data are at fault; the message says how.
        LoadingError: A process that loads data died.
    """
    AcceleratorState._reset_state()  # it keeps a process' first precision; runs here may differ
    accelerator = build_accelerator(config, runtime)
    try:
        return Trainer(config, runtime, accelerator).train()
    finally:
        # notebook_launcher refuses to start, or starts strangers to each other, where a run of one
        # process has left its state. Several processes keep theirs: it has their connection.
        AcceleratorState._reset_state(reset_partial_state=accelerator.num_processes == 1)


class Trainer:
    """One run, from its newest checkpoint to its last iteration."""

    look_every = 10  #: Iterations between two looks at the loss: finite? Curve, TensorBoard, bar.

    def __init__(self, config: RunConfig, runtime: Runtime, accelerator: Accelerator) -> None:
        self.config, self.runtime, self.accelerator = config, runtime, accelerator
        self.run_dir = runtime.run_dir(config)
        self.alone = accelerator.num_processes == 1
        runtime.start()
        self.dataset = load_dataset(config, config.train_split, runtime)
        checkpoint = checkpoints.newest(self.run_dir)
        self._check_data(checkpoint)
        set_seed(config.seed)
        self.network = self._build_network(fresh=checkpoint is None)
        self.watched = watched_parameters(self.network)
        optimizer, schedule = build_optimizer(self.network, config)
        trained = trained_part(self.network, config)
        prepared = accelerator.prepare(trained, optimizer, schedule)
        self.trained, self.optimizer, self.schedule = prepared
        checkpoints.save_bare(accelerator, self.network)
        self.history = History(config)
        self.iteration, self.seconds = 0, 0.0
        if checkpoint:
            self._restore(*checkpoint)
        self.resumed_from = self.iteration
        self.began = self.saved = 0.0  # by the monotonic clock

    @property
    def finished(self) -> bool:
        """Whether no iteration is left."""
        return self.iteration == self.config.iterations

    def train(self) -> Training:
        """Do the iterations that are left."""
        if not self.finished:
            if self.accelerator.is_main_process:
                check_writable(self.run_dir, OTHER_RUNS_DIR)
            self._set_training_mode()
            self._iterate(*self._loader())
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)  # autocast off again
        classes, curves = self.dataset.classes, self.history.curves
        return Training(self.network, classes, curves, self.seconds, self.resumed_from)

    def validate(self) -> float:
        """MIoU, percent, on the split that the run is scored on; training does not notice."""
        cuda = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):  # bases that start from random pixels draw them
            return score(self.network, self.config, self.runtime, description="validate").miou

    def _build_network(self, *, fresh: bool) -> SegmentationNetwork:
        config, runtime = self.config, self.runtime
        weights = (runtime.weights_path or "imagenet") if config.pretrained and fresh else None
        network = build_network(config, len(self.dataset.classes), weights)
        network.to(self.accelerator.device).to(memory_format=torch.channels_last)
        if config.start_from and fresh:
            checkpoints.load_weights(network, Path(runtime.runs_dir) / config.start_from)
        if not self.alone:
            for_several_processes(network, config, self.accelerator)
        return network

    def _check_data(self, checkpoint: tuple[Path, checkpoints.Manifest] | None) -> None:
        """Before anything is trained: can these data be learnt, or are they those seen before?"""
        config, self.data = self.config, data_seen(self.dataset)
        if checkpoint:
            folder, manifest = checkpoint
            fix = f"give it those data again, train in another folder of runs, or delete {folder}"
            require_same(self.dataset.fingerprint(), manifest.data, config.id, fix)
            return
        warnings = learnable(self.dataset, load_dataset(config, config.eval_split, self.runtime))
        warnings += misalignment(config.crop_size, config.output_stride)
        for warning in warnings if self.accelerator.is_main_process else ():
            logger.warning("%s: %s", config.id, warning)

    def _restore(self, folder: Path, manifest: checkpoints.Manifest) -> None:
        with watch_random_states(self.accelerator, folder):
            self.accelerator.load_state(str(folder))
        self.iteration, self.seconds = manifest.iteration, manifest.seconds
        self.history = History(self.config, manifest, self.accelerator.device)
        if self.accelerator.is_main_process:
            logger.info("%s: resumes from iteration %d", self.config.id, self.iteration)

    def _set_training_mode(self) -> None:
        self.trained.train()
        for module in self.trained.modules() if self.config.freeze_bn else ():
            if isinstance(module, _BatchNorm):
                module.eval()

    def _loader(self) -> tuple[Loader, list[int]]:
        """This process' parts of all batches to come, and how many images a batch's parts have."""
        config, runtime = self.config, self.runtime
        share = BatchShare(
            config.iterations - self.iteration,
            config.batch_size,
            runtime.images_per_step,
            self.accelerator.num_processes,
            self.accelerator.process_index,
        )
        stream = TrainingStream(
            *training_samples(self.network, self.dataset, config, runtime),
            seed=config.seed,
            start=self.iteration * config.batch_size,
            stop=config.iterations * config.batch_size,
        )
        loader = Loader(
            stream,
            batch_sampler=share,
            num_workers=runtime.workers,
            pin_memory=self.accelerator.device.type == "cuda",
            # A loader draws a seed when its iteration begins. Not from the global stream:
            # a resumed run would then meet other dropout masks than an uninterrupted one.
            generator=torch.Generator().manual_seed(config.seed),
        )
        return loader, share.sizes

    def _iterate(self, loader: Loader, sizes: list[int]) -> None:
        """The loop; ``sizes`` are the images of a batch's parts."""
        stop: Signals | None = None
        self.saved = time.monotonic()
        self.began = self.saved - self.seconds
        timed = Timed(loader)
        with (
            translate_errors(self.config, self.runtime),
            _tensorboard(self.accelerator),
            # A launcher passes on a Ctrl-C that its processes have already got from the terminal.
            Interruption(patient=not self.alone) as interruption,
            tqdm(
                total=self.config.iterations,
                initial=self.iteration,
                desc=self.config.id,
                unit="it",
                disable=not self.accelerator.is_main_process,
            ) as bar,
        ):
            batches = iter(timed)
            while not (self.finished or stop):
                self._step([next(batches) for _ in sizes], sizes)
                bar.update()
                stop = self._pause(interruption, bar.set_postfix)
        self.seconds = time.monotonic() - self.began
        if self.accelerator.is_main_process:
            images = self.config.batch_size / len(sizes)
            logger.info("%s: %s", self.config.id, timed.summary(images))
        stop = stop or interruption.signal
        if stop:
            done = f"{self.iteration} of {self.config.iterations}"
            message = f"run {self.config.id} was stopped by {stop.name} after iteration {done}; "
            message += f"start it again and it resumes from its newest checkpoint in {self.run_dir}"
            logger.warning(message)
            exit_as_signalled(stop, message)

    def _step(self, parts: Sequence[Any], sizes: Sequence[int]) -> None:
        """One iteration: gradients of the whole batch, their norms, optimiser, schedule."""
        over = self.config.loss_over
        loss = backward(self.accelerator, self.trained, parts, sizes, over=over)
        self.history.note("loss", loss)
        self.accelerator.unscale_gradients()  # does something under fp16 alone
        norms = {name: gradient_norm(weights) for name, weights in self.watched.items()}
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16 had overflowed
            for name, norm in norms.items():
                self.history.note(name, norm)
        self.iteration += 1

    def _is_due(self, every: int) -> bool:
        """Whether something that is done every so many iterations, and last, is done now."""
        return every > 0 and (self.finished or self.iteration % every == 0)

    def _pause(self, interruption: Interruption, show: Callable[..., None]) -> Signals | None:
        """What is done between iterations; the signal, if one is to end the run here."""
        look = self._is_due(self.look_every)
        validate = self._is_due(self.runtime.validate_every)
        # One process heeds a signal at once, several do when they look.
        if not (look or validate or (self.alone and interruption.signal)):
            return None
        self.history.check(self.iteration)
        values: dict[str, float] = {}
        if look:
            values = {**self.history.means(), "learning_rate": self.schedule.get_last_lr()[0]}
            show(loss=f"{values['loss']:.3f}", refresh=False)
        best = False
        if validate:
            values[_VALIDATION] = self.validate()
            best = values[_VALIDATION] > self.history.highest(_VALIDATION)
        self.history.add(self.iteration, values)
        self.accelerator.log(values, step=self.iteration)
        late = time.monotonic() - self.saved >= self.runtime.checkpoint_seconds
        stop, save = self._agree(interruption.signal, look and late)
        if self.finished or save or best or stop:
            self._save(best=best)
        return stop

    def _agree(self, received: Signals | None, save: bool) -> tuple[Signals | None, bool]:
        """The signal that one of the processes got, and whether the main one wants to save."""
        main = self.accelerator.is_main_process
        flags = [received == SIGINT, received == SIGTERM, save and main]
        own = torch.tensor(flags, device=self.accelerator.device).long()
        total: Tensor = self.accelerator.reduce(own)
        sigint, sigterm, save_all = total.tolist()
        return SIGINT if sigint else SIGTERM if sigterm else None, bool(save_all)

    def _save(self, *, best: bool) -> None:
        check_weights(self.network, self.iteration, self.config)
        manifest = checkpoints.Manifest(
            config=self.config,
            classes=self.dataset.classes,
            # As Python's numbers: a dataset of one's own may have arrays.
            colors=tuple((int(r), int(g), int(b)) for r, g, b in self.dataset.palette),
            mean=_three(self.dataset.mean),
            std=_three(self.dataset.std),
            iteration=self.iteration,
            curves=self.history.curves,
            seconds=time.monotonic() - self.began,
            pending=self.history.pending(),
            data=self.data,
        )
        keep = self.runtime.keep_checkpoints
        checkpoints.save(self.accelerator, self.run_dir, manifest, keep=keep, best=best)
        self.saved = time.monotonic()


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


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

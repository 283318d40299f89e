"""Where a run happens: machine, folders, processes, checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from emastudy import options
from emastudy.engine.config import RunConfig
from emastudy.engine.precision import Choice, fastest_on_cpu, user_cache
from emastudy.options import NonNegativeFloat, NonNegativeInt, PositiveInt, Range

#: What else to do where a run's folder cannot be written, see ``files.check_writable``.
OTHER_RUNS_DIR = "choose another with runs_dir (--runs-dir for the command)"


@dataclass(frozen=True)
class Machine:
    """What computes; prediction needs no more than this.

    Raises:
        InputError: A field out of its range.
    """

    #: "auto" takes a CUDA GPU where there is one; "cpu" forces the CPU.
    device: Literal["auto", "cpu"] = "auto"
    threads: Annotated[int, Range(0, 1024)] = 0  #: CPU threads of one process; 0 = torch's default.

    def __post_init__(self) -> None:
        options.check_types("", vars(self), type(self))

    def start(self) -> torch.device:
        """Limit this process to its threads and return the device to compute on."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return torch.device("cuda" if self.has_gpu else "cpu")

    def choose_precision(self, config: RunConfig) -> Choice:
        """What the run computes in on this machine, and why: "auto" resolved."""
        if config.precision != "auto":
            return Choice(config.precision, "named by the config")
        if not self.has_gpu:
            return fastest_on_cpu(self.threads or torch.get_num_threads(), self._caches)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bf16", "the GPU has bfloat16 in hardware")
        return Choice("float32", "the GPU has no bfloat16 in hardware")

    def autocast_dtype(self, config: RunConfig) -> torch.dtype | None:
        """The type that matrix products are computed in; None = float32, no autocast."""
        precision = self.choose_precision(config).precision
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    @property
    def has_gpu(self) -> bool:
        """Whether it computes on a CUDA GPU."""
        return self.device == "auto" and torch.cuda.is_available()

    @property
    def _caches(self) -> tuple[Path, ...]:
        """Folders for what need not be found out anew; the first that can be written is used."""
        folder = user_cache()
        return (folder,) if folder else ()


@dataclass(frozen=True)
class ScoringRuntime(Machine):
    """What computes and where the images are: all that scoring a network needs."""

    data_root: str = ""  #: Folder of the dataset, in its official layout; not needed by scenes.
    #: Processes that load images for the one that computes; 0 = that one itself.
    workers: Annotated[int, Range(0, 1024)] = 0

    def scoring(self, config: RunConfig) -> dict[str, Any]:
        """How ``scoring.evaluate`` scores the networks of a run: its stride, type and workers."""
        return {
            "output_stride": config.eval_output_stride,
            "dtype": self.autocast_dtype(config),
            "workers": self.workers,
        }


@dataclass(frozen=True)
class Runtime(ScoringRuntime):
    """Where a run happens. Nothing here changes its numbers beyond rounding.

    With two exceptions, both of dividing a batch: where batch norm is not frozen, it takes its
    statistics from the part of the batch that is computed at once (``images_per_step``; the share
    of one process on CPUs, while GPUs share theirs by SyncBatchNorm); and every process draws its
    own dropout masks. See :func:`emastudy.engine.training.train`.

    Raises:
        InputError: A field out of its range.
    """

    #: File with the backbone's ImageNet weights; empty = torchvision's download.
    weights_path: str = ""
    #: Folder of checkpoints and logs, one sub-folder per run; for the command by default runs of
    #: the checkout, or of the working directory.
    runs_dir: str = "runs"
    #: Seconds between checkpoints of a run; it ends with one in any case.
    checkpoint_seconds: NonNegativeFloat = 60.0
    #: How many of a run's newest checkpoints are kept, beside the best one.
    keep_checkpoints: PositiveInt = 2
    #: Iterations between validations on the split that the run is scored on; 0 = never. Their mIoU
    #: joins the curves and says which checkpoint is the best.
    validate_every: NonNegativeInt = 0
    #: Images that a process computes at once; fewer need less memory, gradients are accumulated
    #: over the parts. 0 = the process' whole share of the batch.
    images_per_step: NonNegativeInt = 0
    #: Compile the network with torch.compile: a slow start, then faster steps on GPUs.
    compile: bool = False

    def run_dir(self, config: RunConfig) -> Path:
        """Where the run keeps its checkpoints and its TensorBoard log."""
        return Path(self.runs_dir) / config.id

    @property
    def _caches(self) -> tuple[Path, ...]:
        return (*super()._caches, Path(self.runs_dir).absolute())

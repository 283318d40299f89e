"""Where a run happens: folders, device, processes, checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import torch

from emastudy.engine.config import RunConfig


class ScoringOptions(TypedDict):
    """Keyword arguments of ``scoring.evaluate`` that follow from a run and where it happens."""

    output_stride: int
    dtype: torch.dtype | None
    workers: int


@dataclass(frozen=True)
class Runtime:
    """Where a run happens. Nothing here changes its numbers beyond rounding.

    With two exceptions, both of dividing a batch: where batch norm is not frozen, it takes its
    statistics from the part of the batch that is computed at once (``images_per_step``; the share
    of one process on CPUs, while GPUs share theirs by SyncBatchNorm); and every process draws its
    own dropout masks. See :func:`emastudy.engine.training.train`.

    Raises:
        ValueError: A field out of its range.
    """

    #: Folder of the dataset, in its official layout; not needed by scenes.
    data_root: str = ""
    #: File with the backbone's ImageNet weights; empty = torchvision's download.
    weights_path: str = ""
    #: Folder of checkpoints and logs, one sub-folder per run.
    runs_dir: str = "runs"
    #: "auto" takes an accelerator where there is one; "cpu" forces the CPU.
    device: Literal["auto", "cpu"] = "auto"
    #: CPU threads of one run; 0 = torch's default.
    threads: int = 0
    #: Processes that load data for one run; 0 = the training process itself.
    workers: int = 0
    #: Seconds between checkpoints of a run; it ends with one in any case.
    checkpoint_seconds: float = 60.0
    #: How many of a run's newest checkpoints are kept, beside the best one.
    keep_checkpoints: int = 2
    #: Iterations between validations on the split that the run is scored on; 0 = never. Their mIoU
    #: joins the curves and says which checkpoint is the best.
    validate_every: int = 0
    #: Images that a process computes at once; fewer need less memory, gradients are accumulated
    #: over the parts. 0 = the process' whole share of the batch.
    images_per_step: int = 0
    #: Compile the network with torch.compile: a slow start, then faster steps on GPUs.
    compile: bool = False

    def __post_init__(self) -> None:
        for name, low in (
            ("threads", 0),
            ("workers", 0),
            ("checkpoint_seconds", 0),
            ("keep_checkpoints", 1),
            ("validate_every", 0),
            ("images_per_step", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {low}")

    def run_dir(self, config: RunConfig) -> Path:
        """Where the run keeps its checkpoints and its TensorBoard log."""
        return Path(self.runs_dir) / config.id

    def precision(self, config: RunConfig) -> Literal["bf16", "fp16", "float32"]:
        """What the run computes in on this machine: "auto" resolved."""
        if config.precision != "auto":
            return config.precision
        if self.device == "auto" and torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return "bf16" if native else "float32"

    def scoring(self, config: RunConfig) -> ScoringOptions:
        """How ``scoring.evaluate`` scores the networks of a run: its stride, type and workers."""
        return {
            "output_stride": config.eval_output_stride,
            "dtype": self.autocast_dtype(config),
            "workers": self.workers,
        }

    def autocast_dtype(self, config: RunConfig) -> torch.dtype | None:
        """The type that matrix products are computed in; None = float32, no autocast."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision(config))

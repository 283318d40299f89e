"""The random states of a resumed run: restored, or said not to be."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

logger = logging.getLogger(__name__)

# Where it still stands after loading, nothing has been restored.
_MARK = 20_190_731


@contextmanager
def watch_random_states(accelerator: Accelerator, checkpoint: Path) -> Iterator[None]:
    """Within the context the accelerator loads a checkpoint; warn where it is not all restored.

    Accelerate passes silently over random states that it cannot restore.
    """
    device = accelerator.device
    before = _states(device)
    torch.manual_seed(_MARK)
    marked = _states(device)
    yield
    after = _states(device)
    lost = [kind for kind, state in after.items() if torch.equal(state, marked[kind])]
    if "CPU" in lost:
        torch.set_rng_state(before["CPU"])
    if "GPU" in lost:
        torch.cuda.set_rng_state(before["GPU"], device)
    written, processes = len([*checkpoint.glob("random_states_*.pkl")]), accelerator.num_processes
    if lost or written != processes:
        why = f"it was written by {written} processes, and this is one of {processes}"
        if written == processes:
            why = (
                f"the random state of the {' and '.join(lost)} could not be restored; was it "
                "written on another kind of device, or with another version of NumPy?"
            )
        logger.warning(
            "%s is not resumed exactly: %s. Dropout will draw other masks than in an uninterrupted "
            "run; the data and their order are the same",
            checkpoint,
            why,
        )


def _states(device: torch.device) -> dict[str, Tensor]:
    states = {"CPU": torch.get_rng_state()}
    if device.type == "cuda":
        states["GPU"] = torch.cuda.get_rng_state(device)
    return states

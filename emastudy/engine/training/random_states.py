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

    Accelerate passes silently over random states that it cannot restore, as where another number
    of processes, another kind of device or another version of NumPy wrote them. What is drawn from
    then on, dropout masks above all, is then not what an uninterrupted run would draw.
    """
    device = accelerator.device
    before = _states(device)
    torch.manual_seed(_MARK)
    marked = _states(device)
    yield
    after = _states(device)
    lost = [kind for kind, state in after.items() if torch.equal(state, marked[kind])]
    for kind in lost:
        if kind == "CPU":
            torch.set_rng_state(before[kind])
        else:
            torch.cuda.set_rng_state(before[kind], device)
    written = len(list(checkpoint.glob("random_states_*.pkl")))
    processes = accelerator.num_processes
    if lost or written != processes:
        why = (
            f"it was written by {written} processes, and this is one of {processes}"
            if written != processes
            else f"the random state of the {' and '.join(lost)} could not be restored; was it "
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

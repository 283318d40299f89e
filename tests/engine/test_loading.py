"""Processes that load data: what they hand over, and what is said where one dies."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.utils.data import Dataset

from emastudy.engine.loading import loading_errors, one_by_one
from emastudy.errors import LoadingError


class Numbers(Dataset):
    def __getitem__(self, index):
        return index


def squared(entry):
    return entry**2


def killed(entry):
    os.kill(os.getpid(), signal.SIGKILL)


def signalled(entry):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return entry


@pytest.mark.parametrize("workers", [0, 2])
def test_entries_come_in_order_and_made_ready(workers):
    assert list(one_by_one(Numbers(), [7, 2, 5], squared, workers)) == [49, 4, 25]


def test_signals_are_left_to_the_computing_process():
    assert list(one_by_one(Numbers(), [7, 2], signalled, 1)) == [7, 2]


def test_the_death_of_a_loading_process_says_what_to_do():
    loader = one_by_one(Numbers(), [1], killed, 1)
    words = r"fewer workers \(now 1;.*Then start again"
    with pytest.raises(LoadingError, match=words), loading_errors(1):
        list(loader)


def test_a_full_shared_memory_is_an_error_and_no_endless_wait(monkeypatch):
    def no_room(tensor):
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_room)
    words = "No space left on device.*fewer workers"
    with pytest.raises(LoadingError, match=words), loading_errors(1):
        list(one_by_one(Numbers(), [1], torch.tensor, 1))


def broken(entry):
    raise RuntimeError("mine")


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="mine$") as failed, loading_errors(1):
        list(one_by_one(Numbers(), [1], broken, 1))
    assert not isinstance(failed.value, LoadingError)
    with pytest.raises(RuntimeError, match="^mine$"), loading_errors(1):
        raise RuntimeError("mine")


def test_an_error_leaves_no_process_behind():
    with pytest.raises(RuntimeError, match="mine"):
        list(one_by_one(Numbers(), range(10), broken, 2))
    assert not multiprocessing.active_children()


LEFT = """
from emastudy.engine.loading import one_by_one
loader = iter(one_by_one(range(100), range(100), float, workers=1))
print(next(loader))
import builtins; builtins.kept = loader  # as a notebook keeps the traceback of an error
"""


def test_a_process_ends_whatever_holds_a_loader():
    done = subprocess.run(
        [sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "0.0\n"

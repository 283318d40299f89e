"""Where a run happens."""

import pytest
import torch

from emastudy.engine import RunConfig, Runtime
from emastudy.engine.runtime import Machine
from emastudy.errors import InputError


def test_precision_may_be_forced():
    assert Runtime().precision(RunConfig(precision="bf16")) == "bf16"
    assert Runtime().precision(RunConfig(precision="float32")) == "float32"


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="torch before 2.11")
def test_precision_is_the_same_by_the_older_torchs_way_of_asking(monkeypatch):
    machine, config = Machine(device="cpu"), RunConfig(precision="auto")
    new = machine.precision(config)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert machine.precision(config) == new


@pytest.mark.parametrize("native", [True, False])
def test_without_bfloat16_in_hardware_float32_is_computed(native, monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False
    )
    expected = torch.bfloat16 if native else None
    assert Machine(device="cpu").autocast_dtype(RunConfig(precision="auto")) == expected


def test_a_process_is_limited_to_its_threads():
    before = torch.get_num_threads()
    try:
        assert Machine(device="cpu", threads=before + 1).start() == torch.device("cpu")
        assert torch.get_num_threads() == before + 1
        Machine(device="cpu").start()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("field", "value"),
    [("threads", -1), ("workers", -1), ("checkpoint_seconds", -1.0), ("keep_checkpoints", 0),
     ("validate_every", -1), ("images_per_step", -1)],
)  # fmt: skip
def test_bad_fields_are_named(field, value):
    with pytest.raises(InputError, match=f"{field} is {value}; expected at least"):
        Runtime(**{field: value})

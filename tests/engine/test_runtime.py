"""Where a run happens."""

from pathlib import Path

import pytest
import torch

from emastudy.engine import RunConfig, Runtime, runtime
from emastudy.engine.precision import Choice, cpu_abilities, decide, time_training, user_cache
from emastudy.engine.runtime import Machine
from emastudy.errors import InputError


def test_precision_may_be_forced():
    assert Runtime().choose_precision(RunConfig(precision="bf16")).precision == "bf16"
    assert Runtime().choose_precision(RunConfig(precision="float32")).precision == "float32"


def test_what_a_processor_has_no_timing_decides(tmp_path):
    def measure(threads):
        pytest.fail("it was timed")

    amx = decide(["amx_bf16", "avx512_bf16"], 1, [tmp_path], measure)
    assert (amx.precision, "AMX" in amx.reason) == ("bf16", True)
    assert decide([], 1, [tmp_path], measure).precision == "float32"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("bf16", "expected"), [(0.002, "bf16"), (0.004, "float32")])
def test_bfloat16_in_hardware_is_taken_where_it_is_faster_and_that_is_kept(
    tmp_path, bf16, expected
):
    measured = []

    def measure(threads):
        measured.append(threads)
        return {"bf16": bf16, "float32": 0.003}

    choice = decide(["avx512_bf16"], 2, [tmp_path / "cache"], measure)
    assert choice.precision == expected
    assert f"{1e3 * bf16:.1f} ms in bfloat16 and 3.0 ms in float32" in choice.reason
    assert decide(["avx512_bf16"], 2, [tmp_path / "cache"], measure) == choice
    assert measured == [2]
    decide(["avx512_bf16"], 1, [tmp_path / "cache"], measure)  # threads are another matter
    assert measured == [2, 1]
    for file in (tmp_path / "cache").glob("*.json"):
        file.write_text('{"precision": "fp4"')
    assert decide(["avx512_bf16"], 2, [tmp_path / "cache"], measure) == choice
    assert measured == [2, 1, 2]


def test_where_a_decision_cannot_be_kept_it_is_kept_elsewhere_or_made_each_time(tmp_path):
    measured = []

    def measure(threads):
        measured.append(threads)
        return {"bf16": 0.001, "float32": 0.002}

    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "cache"
    for _ in range(2):
        assert decide(["avx512_bf16"], 1, [bad, tmp_path / "runs"], measure).precision == "bf16"
    assert len(measured) == 1
    for _ in range(2):
        assert decide(["avx512_bf16"], 1, [bad], measure).precision == "bf16"
    assert len(measured) == 3


def test_timing_leaves_random_numbers_threads_and_gradients_alone():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        assert all(seconds > 0 for seconds in time_training(threads + 1).values())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_where_the_decision_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "emastudy"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which its specification says to ignore
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_cache() == Path("/home/somebody/.cache/emastudy")


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="torch before 2.11")
def test_abilities_are_the_same_by_the_older_torchs_way_of_asking(monkeypatch):
    new = cpu_abilities()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert cpu_abilities() == new


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_cpu_is_what_was_decided_for_its_threads(native, monkeypatch):
    choice = Choice("bf16" if native else "float32", "so it was decided")
    monkeypatch.setattr(runtime, "fastest_on_cpu", lambda threads, folders: {7: choice}[threads])
    machine = Machine(device="cpu", threads=7)
    assert machine.choose_precision(RunConfig()) == choice
    assert machine.autocast_dtype(RunConfig()) == (torch.bfloat16 if native else None)


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
    [("threads", -1), ("threads", 10**11), ("workers", -1), ("checkpoint_seconds", -1.0),
     ("checkpoint_seconds", float("nan")), ("keep_checkpoints", 0), ("validate_every", -1),
     ("images_per_step", -1)],
)  # fmt: skip
def test_bad_fields_are_named(field, value):
    with pytest.raises(InputError, match=f"{field} is {value}; expected a .* number ≥ [01]"):
        Runtime(**{field: value})

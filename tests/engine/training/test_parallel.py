"""A batch divided over processes and parts against the undivided one, from shell and notebook."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
import torch
from engine.tiny import runtime
from hypothesis import given
from hypothesis import strategies as st
from papermill import execute_notebook
from slurm_node import free_port
from torch import nn

from emastudy import EMAU
from emastudy.engine import RunConfig, load_network, train
from emastudy.engine.build import build_network
from emastudy.engine.training.parallel import BatchShare, BufferAverage

# Batch norm is frozen and nothing dropped: then no division may be noticed. Small scales leave
# ignored pixels, a different number in every image.
CONFIG = RunConfig(
    head="ema",
    head_options={"channels": 16, "num_bases": 4, "gradient": "one_step", "dropout": 0.0},
    crop_size=32,
    dataset_options={"size": 32, "num_classes": 3, "noise": 0.05, "style": 0.0},
    batch_size=12,
    iterations=12,
    eval_images=3,
    scales=(0.5, 0.75, 1.0),
    precision="float32",
    learning_rate=0.5,
    freeze_bn=True,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One process, the batch in one piece."""
    training = train(CONFIG, runtime(tmp_path_factory.mktemp("whole")))
    loss = [value for _, value in training.curves["loss"]]
    assert loss[-1] < loss[0] - 0.05  # there is a trajectory to be compared
    return training


def assert_close(network, curves, whole):
    assert {name: [i for i, _ in c] for name, c in curves.items()} == {
        name: [i for i, _ in c] for name, c in whole.curves.items()
    }
    for name, curve in curves.items():
        expected = [value for _, value in whole.curves[name]]
        assert [value for _, value in curve] == pytest.approx(expected, abs=1e-5), name
    expected = whole.network.state_dict()
    state = network.state_dict()
    assert state.keys() == expected.keys()
    assert "head.context.bases" in state
    for name in state:  # a ReLU that rounding flips moves a weight by 2e-5 (seen with torch 2.6)
        torch.testing.assert_close(state[name], expected[name], rtol=0, atol=5e-5, msg=name)


@pytest.mark.parametrize("images_per_step", [6, 5])  # parts of 6, 6 and of 4, 4, 4
def test_accumulated_parts_equal_the_whole_batch(images_per_step, whole, tmp_path):
    parts = train(CONFIG, runtime(tmp_path, images_per_step=images_per_step))
    assert_close(parts.network, parts.curves, whole)


def launched(command, folder, *more):
    """``emastudy train`` of CONFIG, started by a launcher of two processes."""
    options = [
        "scenes", "--head-options", "num_bases=4", "channels=16", "gradient=one_step",
        "dropout=0.0", "--dataset-options", "size=32", "num_classes=3",
        "noise=0.05", "style=0.0", "--crop-size", "32", "--iterations", "12",
        "--eval-images", "3", "--scales", "0.5", "0.75", "1.0", "--precision", "float32",
        "--learning-rate", "0.5", "--freeze-bn", "--threads", "1", *more,
        "--records", str(folder / "records"), "--runs-dir", str(folder / "runs"),
    ]  # fmt: skip
    # Lower versions of accelerate pass on port 0 as it is, and wait for ever.
    command = [part.format(port=free_port()) for part in command]
    done = subprocess.run(
        [sys.executable, "-m", *command, "-m", "emastudy.cli", "train", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "command",
    [
        ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
         "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port={port}"],
    ],
    ids=["torchrun", "accelerate launch"],
)  # fmt: skip
def test_two_processes_from_a_shell_equal_one(command, whole, tmp_path):
    device = ["--device", "cpu"] if torch.cuda.is_available() else []  # "auto" finds it by itself
    launched(command, tmp_path, *device)
    network, manifest = load_network(tmp_path / "runs" / CONFIG.id)  # as for one process
    assert manifest.config == CONFIG
    assert_close(network, manifest.curves, whole)
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= set(manifest.files)
    record = json.loads((tmp_path / "records" / f"{CONFIG.id}.json").read_text())
    # Every one of the three scored images counts once, though two processes scored them.
    assert sum(map(sum, record["confusion"])) == 3 * 32 * 32


NOTEBOOK = """
import dataclasses
from accelerate import notebook_launcher
from emastudy.engine import RunConfig, Runtime, train
from emastudy.study import run_one

config = RunConfig.from_dict({config})
runtime = Runtime(runs_dir={runs!r}, device="cpu", threads=1)
train(dataclasses.replace(config, iterations=1, batch_size=1), runtime)  # must not stand in the way
notebook_launcher(run_one, (config, {records!r}, runtime), num_processes=2)
"""


@pytest.mark.notebook
def test_two_processes_from_a_notebook_equal_one(whole, tmp_path):
    source = NOTEBOOK.format(
        config=CONFIG.to_dict(), runs=str(tmp_path / "runs"), records=str(tmp_path / "records")
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    execute_notebook(tmp_path / "in.ipynb", None, progress_bar=False)
    network, manifest = load_network(tmp_path / "runs" / CONFIG.id)
    assert_close(network, manifest.curves, whole)
    assert "random_states_1.pkl" in manifest.files
    assert len(list((tmp_path / "records").glob("*.json"))) == 1


@given(
    batch=st.integers(1, 40),
    processes=st.integers(1, 9),
    images_per_step=st.integers(0, 12),
    batches=st.integers(1, 3),
)
def test_every_image_is_computed_once_and_parts_are_small_enough(
    batch, processes, images_per_step, batches
):
    try:
        shares = [
            BatchShare(batches, batch, images_per_step, processes, process)
            for process in range(processes)
        ]
    except ValueError as error:
        # Refused only where somebody would have nothing to do.
        most = int(re.search(r"at most (\d+) processes", str(error))[1])
        assert most < processes
        return
    lists = [list(share) for share in shares]
    parts = len(shares[0].sizes)
    assert {len(parts_) for parts_ in lists} == {len(shares[0])} == {batches * parts}
    assert sorted(i for own in lists for part in own for i in part) == list(range(batches * batch))
    for step in range(batches * parts):
        together = [i for own in lists for i in own[step]]
        assert len(together) == shares[0].sizes[step % parts]
        assert {i // batch for i in together} == {step // parts}  # all are at the same batch
    sizes = [len(part) for own in lists for part in own]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= (images_per_step or batch)


def test_running_averages_of_parts_become_one_update():
    torch.manual_seed(0)
    features = torch.randn(7, 8, 5, 5)

    def layers():
        torch.manual_seed(1)
        unit = EMAU(8, 4, 2).train()
        unit.norm.eval()
        return nn.ModuleList([unit, nn.BatchNorm2d(8).train(), nn.BatchNorm2d(8).eval()])

    whole, divided = layers(), layers()
    for layer in whole:
        layer(features)
    average = BufferAverage(divided)
    for part in (features[:4], features[4:5], features[5:]):
        for layer in divided:
            layer(part)
        average.add(len(part))
    average.finish()
    torch.testing.assert_close(divided[0].bases, whole[0].bases, rtol=0, atol=1e-6)
    torch.testing.assert_close(divided[1].running_mean, whole[1].running_mean, rtol=0, atol=1e-6)
    # What does not move, does not move at all.
    assert torch.equal(divided[2].running_var, torch.ones(8))
    assert torch.equal(divided[2].running_mean, torch.zeros(8))


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_weights(whole):
    fresh = build_network(CONFIG, 3).state_dict()
    for name, value in whole.network.state_dict().items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value, fresh[name]), name
    trained = whole.network.head.reduce[1].weight
    assert not torch.allclose(trained, torch.ones_like(trained))


def test_unfrozen_batch_norm_moves_once_an_iteration_at_any_division(tmp_path):
    """Where batch norm is not frozen a division is noticed, but not in the pace of its averages."""
    config = dataclasses.replace(CONFIG, freeze_bn=False, iterations=1, learning_rate=0.05)
    one = train(config, runtime(tmp_path / "one")).network.backbone
    two = train(config, runtime(tmp_path / "two", images_per_step=6)).network.backbone
    first, second = (
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        for network in (one, two)
    )
    torch.testing.assert_close(first.running_mean, second.running_mean, rtol=1e-4, atol=1e-6)
    assert not torch.equal(first.running_var, second.running_var)  # only the one within parts


def test_a_batch_too_small_for_its_processes_says_what_to_do():
    with pytest.raises(ValueError, match="batch_size is 2, too small for 3 processes.*at most 2"):
        BatchShare(1, 2, 0, 3, 0)

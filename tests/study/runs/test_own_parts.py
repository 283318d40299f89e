"""Parts of one's own in runs: trained in processes of their own, scored, predicted, resumed."""

import dataclasses
import json

import nbformat
import pandas as pd
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from emastudy.engine import load_network, predict_files, score
from emastudy.engine.runtime import Machine
from emastudy.errors import InputError
from emastudy.study import Record, run, run_one
from emastudy.study.runs import audit, load_records

pytestmark = pytest.mark.usefixtures("one_fork_server")


@pytest.fixture
def configs(tiny, my_module):
    """EMA's unit by its name and by an import path, and a run with nothing of the package's."""
    ema = dataclasses.replace(
        tiny, head="ema", head_options={"channels": 8, "num_bases": 4}, precision="float32"
    )
    return [
        ema,
        dataclasses.replace(ema, head="my_module:EMAU"),
        dataclasses.replace(
            tiny,
            dataset="my_module:Few",
            head="my_module:Mean",
            head_options={"channels": 8, "weight": 0.5},
            backbone="my_module:Small",
        ),
    ]


def test_ours_by_an_import_path_has_our_numbers(configs, runtime, tmp_path):
    ours, own = (run_one(config, tmp_path / "records", runtime) for config in configs[:2])
    assert own.curves["loss"] == ours.curves["loss"]
    assert own.confusion == ours.confusion


def test_a_sweep_trains_them_in_processes_of_their_own(configs, runtime, tmp_path):
    table = run(configs[1:], tmp_path / "records", runtime)
    assert len(table["record"].iloc[1].iou) == 3
    assert table.index.str.replace("-.{10}$", "", regex=True).tolist() == [
        "scenes-EMAU", "Few-Mean",
    ]  # fmt: skip
    assert table["head.num_iterations"].iloc[0] == 3
    assert table["head.weight"].iloc[1] == 0.5


def test_what_is_wrong_shows_before_anything_is_trained(configs, my_module, runtime, tmp_path):
    my_module.write_text(my_module.read_text().replace("return x + ", "return x[:, 1:] + "))
    bad = dataclasses.replace(configs[2], head_options={"channels": 8}, sources={})
    with pytest.raises(InputError, match="fails on a map|must keep the shape"):
        run([configs[0], bad], tmp_path / "records", runtime)
    assert not list(tmp_path.glob("records/*"))


def test_a_trained_network_wants_the_file_that_it_was_trained_with(
    configs, my_module, runtime, tmp_path
):
    config, records = configs[2], tmp_path / "records"
    table = run([config], records, runtime)
    network, manifest = load_network(runtime.run_dir(config))
    again = score(network, manifest.config, runtime)
    assert again.miou == pytest.approx(table["miou"].iloc[0])
    Image.new("RGB", (32, 32)).save(tmp_path / "photograph.png")
    photographs = [tmp_path / "photograph.png"]
    # An own dataset may set what it likes; what the network learnt from is what photographs get.
    assert (network.mean, network.colors) == ((0.5, 0.4, 0.3), ((1, 2, 3),) * 3)
    machine = Machine(device="cpu", threads=1)
    (seen,) = predict_files(photographs, runtime.run_dir(config), tmp_path / "p", machine)
    assert set(seen.shares) <= set(manifest.classes)

    my_module.write_text(my_module.read_text().replace("self.weight * ", ""))
    for use in (
        lambda: load_network(runtime.run_dir(config)),
        lambda: manifest.load_dataset("", runtime),
        lambda: list(predict_files(photographs, runtime.run_dir(config), tmp_path / "p", machine)),
        lambda: audit(records, runtime, ids=[config.id]),
    ):
        with pytest.raises(InputError, match=f"has changed: run {config.id} was made with a file"):
            use()
    # What is recorded can still be looked at.
    (record,) = load_records(records)["record"]
    assert record == Record.read(records / f"{config.id}.json")


NOTEBOOK = [
    """%%writefile my_unit.py
from torch import nn

class MyUnit(nn.Module):
    def __init__(self, channels, scale: float = 1.0):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(channels, channels, 1), scale

    def forward(self, x):
        return x + self.scale * self.conv(x)
""",
    """from emastudy.engine import Runtime
from emastudy.study import recipes, run
""",
    """config = recipes.scenes("my_unit:MyUnit", scale=0.01, channels=8)
runs = run([config], "records", Runtime(device="cpu", threads=1))
print(runs[["head", "seed", "miou"]].to_json(orient="records"))
""",
]


def test_a_unit_is_written_in_a_notebook(tmp_path):
    """Beside the notebook, changed there, and trained again by nothing but another cell."""
    first, imports, train = NOTEBOOK
    cells = [first, imports, train, first.replace("1.0", "2.0"), train]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(notebook, tmp_path / "own.ipynb")
    papermill.execute_notebook(
        tmp_path / "own.ipynb", tmp_path / "out.ipynb", cwd=tmp_path, progress_bar=False
    )
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    tables = [
        pd.DataFrame(json.loads(line))
        for cell in done
        for output in cell.outputs
        for line in output.get("text", "").splitlines()
        if line.startswith("[{")
    ]
    assert [table["head"].tolist() for table in tables] == [["my_unit:MyUnit"]] * 2
    assert tables[0]["miou"].tolist() != tables[1]["miou"].tolist()
    assert len(load_records(tmp_path / "records")) == 2


def test_a_run_that_is_refused_leaves_nothing_behind(configs, my_module, runtime, tmp_path):
    my_module.write_text(my_module.read_text().replace("return x + ", "return x[:, 1:] + "))
    bad = dataclasses.replace(configs[2], head_options={"channels": 8}, sources={})
    with pytest.raises(InputError, match="fails on a map"):
        run_one(bad, tmp_path / "records", runtime)
    assert not runtime.run_dir(bad).exists()


def test_they_train_in_a_python_that_was_started_for_a_job(configs, runtime, tmp_path):
    """As on Slurm, and other than where processes are forked: with nothing imported before."""
    runtime = dataclasses.replace(runtime, device="auto")
    table = run([configs[2]], tmp_path / "records", runtime, executor="local gpus=[6] cores=1")
    assert table["head.weight"].tolist() == [0.5]

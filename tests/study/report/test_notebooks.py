"""The runner: parameters are checked, what is up to date is left alone, nothing half done."""

import json
import os
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import get_kernel_spec
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from emastudy.errors import InputError
from emastudy.study.report.notebooks import NotebookError, run_notebooks


def write(experiments, name, source, parameters='profile: str = "quick"  # folder\nn: int = 1'):
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell(source),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), experiments / f"{name}.ipynb")


@pytest.fixture
def experiments(tmp_path):
    folder = tmp_path / "experiments"
    (folder / "profiles").mkdir(parents=True)
    (folder / "records" / "other").mkdir(parents=True)
    (folder / "profiles" / "quick.yaml").write_text("profile: quick\nn: 3\n")
    write(folder, "01_count", "from pathlib import Path\nprint('n is', n, profile)")
    return folder


def outputs(path):
    return "".join(
        o.get("text", "") for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])
    )


def test_profiles_reach_the_notebook_and_reruns_are_skipped(experiments, tmp_path):
    done = tmp_path / "done"
    assert [o.skipped for o in run_notebooks(experiments, done, "quick")] == [False]
    assert "n is 3 quick" in outputs(done / "01_count.ipynb")
    injected = nbformat.read(done / "01_count.ipynb", 4).cells[2]
    assert injected.metadata["tags"] == ["injected-parameters", "hide-input"]
    assert str(tmp_path) not in (done / "01_count.ipynb").read_text()
    assert [o.skipped for o in run_notebooks(experiments, done, "quick")] == [True]

    for place, skipped in (("other", False), ("other/audit", False), ("quick", True)):
        folder = experiments / "records" / place
        folder.mkdir(exist_ok=True)
        (folder / "x.json").write_text("{}")  # new evidence, but for that of quick
        assert [o.skipped for o in run_notebooks(experiments, done, "quick")] == [skipped]
    outcome = run_notebooks(experiments, done, "quick", parameters={"n": 5})
    assert [o.skipped for o in outcome] == [False]
    assert "n is 5" in outputs(done / "01_count.ipynb")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": "two"}, "^n is 'two'; expected a whole number"),
        ({"n": 1.5}, "^n is 1.5; expected a whole number"),
        ({"seeds": 0}, "^seeds is 0; expected a whole number ≥ 1"),
    ],
)
def test_parameters_that_make_no_sense_are_named_before_anything_runs(
    experiments, tmp_path, parameters, message
):
    write(experiments, "02_more", "", "n: int = 1\nseeds: int = 1")
    with pytest.raises(InputError, match=message):
        run_notebooks(experiments, tmp_path / "done", "quick", parameters=parameters)
    (experiments / "profiles" / "quick.yaml").write_text("n: many\n")
    with pytest.raises(InputError, match="^profile 'quick': n is 'many'; expected a whole number"):
        run_notebooks(experiments, tmp_path / "done", "quick")
    with pytest.raises(InputError, match="^jobs is 0; expected a whole number ≥ 1"):
        run_notebooks(experiments, tmp_path / "done", "quick", jobs=0)
    assert not (tmp_path / "done").exists()


def test_unknown_names_are_errors(experiments, tmp_path):
    done = tmp_path / "done"
    with pytest.raises(NotebookError, match="no profile 'quik'; .* has quick"):
        run_notebooks(experiments, done, "quik")
    with pytest.raises(NotebookError, match="no notebook '77'; .* has 01_count"):
        run_notebooks(experiments, done, "quick", only=["77"])
    with pytest.raises(NotebookError, match="'iteration', which none .* are 'n', 'profile'"):
        run_notebooks(experiments, done, "quick", parameters={"iteration": 3})
    (experiments / "profiles" / "quick.yaml").write_text("profile: quick\nsede: 3\n")
    with pytest.raises(NotebookError, match=r"profile 'quick' sets 'sede', which no notebook"):
        run_notebooks(experiments, done, "quick")
    (experiments / "profiles" / "quick.yaml").write_text("seeds 2\n")
    with pytest.raises(
        NotebookError, match=r"quick\.yaml holds no parameters; expected lines such"
    ):
        run_notebooks(experiments, done, "quick")
    (experiments / "profiles" / "quick.yaml").write_text("seeds: [2\n")
    with pytest.raises(NotebookError, match=r"quick\.yaml is not YAML"):
        run_notebooks(experiments, done, "quick")
    assert not done.exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_notebook_is_named_and_the_earlier_ones_kept(experiments, tmp_path, jobs):
    done = tmp_path / "done"
    write(experiments, "02_fails", "print('before')\nraise RuntimeError('no such dataset')")
    with pytest.raises(NotebookError, match="02_fails.* failed in cell .* no such dataset"):
        run_notebooks(experiments, done, "quick", jobs=jobs)
    assert (done / "01_count.ipynb").exists()
    assert not (done / "02_fails.ipynb").exists()
    assert "before" in outputs(done / "02_fails.partial.ipynb")
    write(experiments, "02_fails", "print('mended')")
    assert [o.skipped for o in run_notebooks(experiments, done, "quick")] == [True, False]
    assert not (done / "02_fails.partial.ipynb").exists()


def test_two_notebooks_at_a_time_share_the_cores(experiments, tmp_path):
    """Each waits until the other has begun: one after the other would never end."""
    wait = """import os, time
from pathlib import Path
Path(f"begun-{me}").touch()
for _ in range(1200):
    if Path(f"begun-{other}").exists():
        break
    time.sleep(0.1)
else:
    raise RuntimeError("alone")
print(os.environ["OMP_NUM_THREADS"])"""
    write(experiments, "01_count", "me, other = 1, 2\n" + wait)
    write(experiments, "02_count", "me, other = 2, 1\n" + wait)
    outcomes = run_notebooks(experiments, tmp_path / "done", "quick", jobs=2)
    assert [outcome.name for outcome in outcomes] == ["01_count", "02_count"]
    for outcome in outcomes:
        share = outputs(tmp_path / "done" / f"{outcome.name}.ipynb").split()
        assert share == [os.environ.get("OMP_NUM_THREADS", str(max(1, os.cpu_count() // 2)))]


def test_notebooks_run_in_this_interpreter_whatever_jupyter_calls_python3(
    experiments, tmp_path, monkeypatch
):
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another environment's"}
    (kernel / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert get_kernel_spec("python3").argv[0] == "/bin/false"
    write(experiments, "01_count", "import sys\nprint(sys.executable)")
    run_notebooks(experiments, tmp_path / "done", "quick")
    assert outputs(tmp_path / "done" / "01_count.ipynb").strip() == sys.executable


def test_one_bar_goes_over_the_notebooks_and_nothing_else_is_printed(experiments, tmp_path, capfd):
    write(experiments, "02_count", "print(1)")
    run_notebooks(experiments, tmp_path / "done", "quick", only=["01"])
    capfd.readouterr()
    run_notebooks(experiments, tmp_path / "done", "quick")
    out, error = capfd.readouterr()
    assert out == ""
    lines = [line.strip() for line in error.replace("\r", "\n").splitlines() if line.strip()]
    assert all(line.startswith("notebooks: ") for line in lines), lines
    assert " 1/2 " in lines[0]  # what is up to date counts as done
    assert " 2/2 " in lines[-1]


@pytest.mark.parametrize("notebooks", [1, 3])
def test_a_kernel_that_finds_its_socket_closed_at_the_end_says_nothing(
    notebooks, experiments, tmp_path, capfd
):
    """Neither one by itself nor those that are forked."""
    closed = """import zmq
kernel = get_ipython().kernel
publish = kernel._publish_status_and_flush
def closed(status, channel, *rest):
    if channel == "control":  # on which a kernel is told to end
        raise zmq.ZMQError(zmq.ENOTSOCK)
    publish(status, channel, *rest)
kernel._publish_status_and_flush = closed"""
    for number in range(1, notebooks + 1):
        write(experiments, f"0{number}_count", closed)
    run_notebooks(experiments, tmp_path / "done", "quick")
    lines = [line.strip() for line in capfd.readouterr().err.replace("\r", "\n").splitlines()]
    assert all(line.startswith("notebooks: ") for line in lines if line), "\n".join(lines)


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux alone")
def test_several_notebooks_are_forked_from_one_process(experiments, tmp_path, capfd):
    where = """import os, sys
print(os.getppid(), os.getpid(), "seaborn" in sys.modules, os.environ.get("CHANGED"))
os.environ["CHANGED"] = "by another notebook"
import matplotlib.pyplot as plt
plt.plot([1, 2])"""
    for number in (1, 2, 3):
        write(experiments, f"0{number}_count", where)
    run_notebooks(experiments, tmp_path / "done", "quick")
    done = [nbformat.read(tmp_path / "done" / f"0{n}_count.ipynb", 4) for n in (1, 2, 3)]
    seen = [notebook.cells[-1].outputs[0].text.split() for notebook in done]
    servers, processes, imported, changed = zip(*seen, strict=True)
    assert len(set(servers)) == 1
    assert len(set(processes)) == 3
    assert set(imported) == {"True"}
    assert set(changed) == {"None"}  # what one changes the next does not find
    pictures = [out for notebook in done for out in notebook.cells[-1].outputs if "data" in out]
    assert sum("image/png" in picture.data for picture in pictures) == 3
    with pytest.raises(ProcessLookupError):
        os.kill(int(servers[0]), 0)  # the process that forked them ended with the last
    out, error = capfd.readouterr()
    lines = [line.strip() for line in error.replace("\r", "\n").splitlines() if line.strip()]
    assert out == ""
    assert all(line.startswith("notebooks: ") for line in lines), lines


def test_a_notebook_that_measures_times_is_executed_alone(experiments, tmp_path):
    """Of two at a time the timed one begins when the others have ended."""
    stamp = "import time\nprint(time.time())\ntime.sleep(0.2)\nprint(time.time())"
    write(experiments, "01_count", stamp, parameters="repeats: int = 3  # timed passes")
    write(experiments, "02_count", stamp)
    run_notebooks(experiments, tmp_path / "done", "quick", jobs=2)
    timed, other = (
        [float(word) for word in outputs(tmp_path / "done" / f"0{n}_count.ipynb").split()]
        for n in (1, 2)
    )
    assert timed[0] > other[1]

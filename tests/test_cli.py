"""The command, from training to pictures, and its options frozen."""

import errno
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest
from layouts import make_folder
from PIL import Image
from study.tiny import TINY, make_record

from emastudy import cli, study
from emastudy.commands import records, train
from emastudy.datasets.base import voc_color
from emastudy.study import recipes


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["emastudy", *map(str, arguments)])
    cli.main()
    return capsys.readouterr().out


def failure(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["emastudy", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        cli.main()
    # What the option parser refuses is printed in a box.
    printed = re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().err)
    return f"{error.value} {printed}".removeprefix("2 ")  # the usual status


def test_train_evaluate_predict_records(monkeypatch, capsys, tmp_path, voc_root):
    monkeypatch.chdir(tmp_path)
    order = (
        "train", "animals", "--data-root", voc_root, "--no-pretrained",
        "--train-split", "train", "--iterations", "2", "--batch-size", "2", "--crop-size", "65",
        "--head", "ema", "--head-options", "num_bases=4", "gradient=one_step", "channels=16",
        "--device", "cpu",
    )  # fmt: skip
    out = command(monkeypatch, capsys, *order)
    assert re.search(r"mIoU \d+\.\d\d %", out)
    assert "trained before" not in out
    assert "trained before, nothing was done" in command(monkeypatch, capsys, *order)
    (record,) = (tmp_path / "records" / "command").glob("voc2012-ema-*.json")
    run = tmp_path / "runs" / record.stem

    again = command(monkeypatch, capsys, "evaluate", run, "--data-root", voc_root)
    assert re.findall(r"mIoU.*", again) == re.findall(r"mIoU.*", out)

    averaged = command(
        monkeypatch, capsys, "evaluate", run / "checkpoint-000002", "--data-root", voc_root,
        "--scales", "1", "1.5", "--flip", "--window", "65", "--boundary", "--submit", "files",
    )  # fmt: skip
    assert re.search(r"mean accuracy \d.*frequency weighted iou \d.*boundary f \d", averaged)
    with tarfile.open(tmp_path / "files" / "comp6_val_cls.tar") as tar:
        assert tar.getnames() == ["results/VOC2012/Segmentation/comp6_val_cls/2008_000003.png"]
    error = failure(monkeypatch, capsys, "evaluate", run, "--scales", "2", "--multi-scale")
    assert "scales and multi_scale are both given" in error

    photograph = voc_root / "JPEGImages" / "2007_000001.jpg"
    out = command(
        monkeypatch, capsys, "predict", photograph, "--checkpoint", run, "--output", "seen"
    )
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(photograph.read_bytes()[:500])
    said = failure(
        monkeypatch,
        capsys,
        "predict",
        damaged,
        photograph,
        "--checkpoint",
        run,
        "--output",
        "other",
    )
    assert re.match(r"emastudy: 1 of 2 images failed emastudy: .*damaged.jpg cannot be read", said)
    assert (tmp_path / "other" / "2007_000001_mask.png").exists()
    assert re.search(r"2007_000001\.jpg: \w+ \d", out)
    with Image.open(tmp_path / "seen" / "2007_000001_mask.png") as mask:
        assert (mask.mode, mask.size) == ("P", (60, 40))
        assert set(np.unique(np.array(mask))) <= set(range(7))
    with Image.open(tmp_path / "seen" / "2007_000001_overlay.png") as overlay:
        assert overlay.size == (60, 40)

    out = command(monkeypatch, capsys, "records", "--verbose")
    assert "finished" in out
    assert record.stem in out


def test_predictions_have_the_colours_of_ones_own_data(monkeypatch, capsys, caplog, tmp_path):
    """They go with the run: the dataset need not be there any more."""
    monkeypatch.chdir(tmp_path)
    root = make_folder(
        tmp_path / "data",
        "classes: [sound, crack]\ncolors: {sound: [1, 2, 3], crack: [250, 200, 10]}\n",
    )
    photograph = root / "images" / "val" / "c.jpg"
    command(
        monkeypatch, capsys, "train", "scenes", "--dataset", "folder", "--data-root", root,
        "--eval-images", "0", "--iterations", "2", "--batch-size", "2",
        "--crop-size", "32", "--device", "cpu",
    )  # fmt: skip
    (root / "dataset.yaml").unlink()
    (run,) = (tmp_path / "runs").iterdir()

    def drawn():
        command(monkeypatch, capsys, "predict", photograph, "--checkpoint", run)
        with Image.open(tmp_path / "predictions" / "c_mask.png") as mask:
            return mask.getpalette()[:6]

    assert drawn() == [1, 2, 3, 250, 200, 10]
    assert "colours" not in caplog.text

    manifest = run / "checkpoint-000002" / "manifest.json"
    older = json.loads(manifest.read_text())
    del older["colors"]  # as before checkpoints kept them
    manifest.write_text(json.dumps(older))
    assert drawn() == [*voc_color(0), *voc_color(1)]
    assert "colours: those of dataset.yaml are not known here" in caplog.text


def test_another_head_takes_of_the_recipes_options_those_that_fit(monkeypatch, capsys, tmp_path):
    seen = []
    monkeypatch.setattr(train, "run_one", lambda config, *_: seen.append(config) or sys.exit())
    for head in ("fcn", "ema"):
        failure(monkeypatch, capsys, "train", "scenes", "--head", head, "--seed", "3")
    assert seen == [recipes.scenes("fcn", seed=3), recipes.scenes("ema", seed=3)]
    assert seen[1].head_options["num_bases"] == 16


def test_a_chain_of_another_seed_or_head_starts_from_that_ones_run(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(train, "run_one", lambda config, *_: seen.append(config) or sys.exit())
    failure(monkeypatch, capsys, "train", "voc_test", "--seed", "1")
    failure(monkeypatch, capsys, "train", "voc_test", "--head", "fcn")
    failure(monkeypatch, capsys, "train", "voc_test", "--start-from", "mine")
    error = failure(monkeypatch, capsys, "train", "scenes", "--head-options", "seed=3")
    assert "no option 'seed'" in error
    assert seen[:2] == [recipes.RECIPES["voc_test"](seed=1), recipes.RECIPES["voc_test"]("fcn")]
    assert seen[2].start_from == "mine"


def test_a_units_option_may_be_called_like_a_recipes(monkeypatch, capsys, my_module):
    seen = []
    monkeypatch.setattr(train, "run_one", lambda config, *_: seen.append(config) or sys.exit())
    my_module.write_text(
        "from torch import nn\n"
        "class Unit(nn.Module):\n"
        "    def __init__(self, channels, scale=1.0):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(channels, channels, 1)\n"
        "    def forward(self, x):\n"
        "        return x + self.conv(x)\n"
    )
    own = ["--head", "my_module:Unit", "--head-options", "scale=0"]
    failure(monkeypatch, capsys, "train", "scenes", *own)
    assert seen[0].head_options["scale"] == 0


def test_another_backbone_keeps_of_the_options_those_that_fit(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(train, "run_one", lambda config, *_: seen.append(config) or sys.exit())
    failure(monkeypatch, capsys, "train", "voc_val", "--backbone", "mobilenet_v2")
    assert seen == [recipes.RECIPES["voc_val"](backbone="mobilenet_v2")]


def test_another_dataset_takes_none_of_the_recipes_options(monkeypatch, capsys):
    """``animals`` restricts VOC to some classes, which are none of anybody's own."""
    seen = []
    monkeypatch.setattr(train, "run_one", lambda config, *_: seen.append(config) or sys.exit())
    failure(monkeypatch, capsys, "train", "animals", "--dataset", "folder")
    failure(monkeypatch, capsys, "train", "animals", "--dataset-options", "complete=false")
    other, same = (config.dataset_options for config in seen)
    assert other == {}
    assert same == {**recipes.animals().dataset_options, "complete": False}


MACHINE = {"device", "threads"}
SCORING = MACHINE | {"data-root", "workers"}
TRAINING = SCORING | {
    "weights-path",
    "runs-dir",
    "checkpoint-seconds",
    "images-per-step",
    "compile",
}
OPTIONS = {
    "train scenes": TRAINING | {
        "dataset", "train-split", "eval-split", "eval-images", "head", "backbone", "pretrained",
        "output-stride", "eval-output-stride", "bn-momentum", "freeze-bn", "start-from",
        "loss-over", "scales", "crop-size", "batch-size",
        "iterations", "learning-rate", "momentum", "weight-decay", "poly-power", "precision",
        "seed", "frozen-backbone", "keep-checkpoints", "validate-every",
        "head-options", "backbone-options", "dataset-options", "records",
    },
    "evaluate": SCORING | {
        "split", "scales", "multi-scale", "flip", "window", "boundary", "submit",
    },
    "predict": MACHINE | {"checkpoint", "output", "window", "save-probabilities"},
    "cost": {
        "size", "backbone", "num-classes", "output-stride", "head-options", "backbone-options",
        "repeats",
    },
    "records": {"state", "verbose", "runs-dir"},
    "audit": TRAINING | {"sample", "seed", "executor"},
    "claims": {"profile", "verbose"},
    "findings": {"write", "check"},
    "study": {"profile", "data-root", "weights-path", "executor", "set", "output", "jobs"},
    "data": {"root", "download", "dataset-options"},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_are_frozen_and_each_does_something(name, monkeypatch, capsys):
    """A renamed option breaks people's scripts: change this list knowingly."""
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, capsys, *name.split(), "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    shown = re.findall(r"^[│ ] --([a-z][a-z-]+)", text, re.MULTILINE)
    assert set(shown) == OPTIONS[name]
    assert "noqa" not in text  # a comment beside a field is taken for its help


def test_every_subcommand_has_its_options_frozen(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, capsys, "--help")
    listed = re.search(r"\{([a-z,]+)\}", capsys.readouterr().out)[1].split(",")
    assert listed == [name.split()[0] for name in OPTIONS]


def test_the_version_is_printed(monkeypatch, capsys):
    assert command(monkeypatch, capsys, "--version").strip() == version("emastudy")


def test_the_ledger_is_of_the_studys_runs(monkeypatch, capsys, tmp_path):
    make_record(TINY).write(tmp_path / "records" / "command")
    monkeypatch.chdir(tmp_path)
    said = failure(monkeypatch, capsys, "claims")
    assert "no run of scenes, " in said
    assert "change into a checkout" in said


def test_the_list_of_subcommands_says_what_each_does(root):
    files = {path.stem for path in (root / "emastudy" / "commands").glob("[a-z]*.py")}
    assert files == set(cli.COMMANDS)
    for name, text in cli.COMMANDS.items():
        command = import_module(f"emastudy.commands.{name}").command
        assert inspect.getdoc(command).splitlines()[0] == text


def test_help_comes_before_anything_heavy_is_imported():
    """Of 2 seconds instead of 6, and also where an extra is missing or broken."""
    heavy = ["torchvision", "torchmetrics", "accelerate", "pandas", "scipy", "PIL", "papermill"]
    script = (
        "import sys; from emastudy.cli import main; sys.argv = ['emastudy', '--help']\n"
        "try: main()\n"
        f"finally: sys.stderr.write(' '.join({heavy!r} & sys.modules.keys()))"
    ).replace(repr(heavy), repr(set(heavy)))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "predict" in done.stdout
    assert done.stderr == ""


def test_what_an_extra_brings_is_named_with_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skimage", None)  # as where it is not installed
    for name in [n for n in sys.modules if n.startswith("emastudy.study.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "emastudy.commands.claims", raising=False)
    monkeypatch.delattr(study, "report", raising=False)
    said = failure(monkeypatch, capsys, "claims")
    assert said.strip() == (
        "emastudy: skimage is not installed; pip install '.[study]' in a checkout brings all that "
        "the commands need"
    )


def test_a_reader_that_has_had_enough_is_no_bug():
    """As in emastudy data | head."""
    script = "import sys; from emastudy.cli import main; sys.argv[1:] = ['data', 'camvid']; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def broken(error):
    def claims(*_, **__):
        raise error

    return claims


def test_an_error_shows_where_it_came_from_when_asked(monkeypatch, capsys):
    silent = failure(monkeypatch, capsys, "evaluate", "/nowhere")
    shown = failure(monkeypatch, capsys, "evaluate", "--traceback", "/nowhere")
    assert silent.startswith("emastudy: there is no /nowhere; give a folder")
    assert "Traceback" not in silent
    assert "emastudy: there is no /nowhere; give a folder" in shown
    assert "checkpoints.py" in shown


def test_what_was_not_foreseen_is_called_a_bug(monkeypatch, capsys):
    monkeypatch.setattr(records, "survey", broken(ZeroDivisionError("division by zero")))
    error = failure(monkeypatch, capsys, "records", "a profile")
    assert error.startswith("3 ")
    assert "this is a bug in emastudy" in error
    assert "report the command \"emastudy records 'a profile'\"" in error
    assert "ZeroDivisionError: division by zero" in error


def test_an_error_in_a_part_of_ones_own_is_no_bug_of_the_package(
    monkeypatch, capsys, my_module, tmp_path
):
    """Met in training, where it passed its trial: the class, file and line are named."""
    source = my_module.read_text().replace("return x +", "assert len(x) < 3\n        return x +")
    my_module.write_text(source)
    error = failure(
        monkeypatch, capsys, "train", "scenes", "--head", "my_module:Mean", "--iterations", "1",
        "--head-options", "channels=8", "--batch-size", "3", "--device", "cpu",
        "--runs-dir", str(tmp_path / "runs"), "--records", str(tmp_path / "records"),
    )  # fmt: skip
    assert f"an error in a part of your own, {my_module}, line" in error
    assert "in Mean.forward (assert len(x) < 3): AssertionError; fix it there" in error
    assert "bug" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_no_bug(monkeypatch, capsys, number):
    full = OSError(number, os.strerror(number), "/data/archives")
    monkeypatch.setattr(records, "survey", broken(full))
    error = failure(monkeypatch, capsys, "records")
    assert f"{os.strerror(number)}: '/data/archives': free space there" in error
    assert "bug" not in error
    assert "Traceback" not in error


def test_a_path_beyond_the_locale_is_explained(monkeypatch, capsys):
    """TensorBoard, for one, cannot write where Python has had to escape a letter."""
    error = UnicodeEncodeError("utf-8", "w\udcc3\udcb6rk", 1, 3, "surrogates not allowed")
    monkeypatch.setattr(records, "survey", broken(error))
    assert "a path has letters beyond those of the locale" in failure(
        monkeypatch, capsys, "records"
    )


def test_a_narrow_encoding_loses_letters_alone(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["emastudy", "data", "camvid"])
    cli.main()
    sys.stdout.flush()
    assert b"480?360" in printed.getvalue()


def test_ctrl_c_says_how_to_resume(monkeypatch, capsys):
    monkeypatch.setattr(records, "survey", broken(KeyboardInterrupt()))
    assert failure(monkeypatch, capsys, "records").startswith("130 ")
    monkeypatch.setattr(sys, "argv", ["emastudy", "records"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "finished runs are kept, run the same command to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "scenes", "--head", "crf"), "head is 'crf'; there are a2"),
        (("train", "scenes", "--head-options", "T=3"), "no option 'T'"),
        (("train", "scenes", "--head-options", "channels"), "not of the form NAME=VALUE"),
        (("train", "scenes", "--head-options", "num_bases=0"), "num_bases is 0"),
        (("train", "animals"), "say where with root"),
        (("train", "animals", "--data-root", "/nowhere"), "/nowhere does not exist"),
        (("evaluate", "/nowhere"), "there is no /nowhere"),
        (("predict", "x.jpg", "--checkpoint", "/nowhere"), "there is no x.jpg"),
        (("predict", "--checkpoint", "/nowhere"), "images is []; expected at least one file"),
        (("predict", "x/*.jpg", "--checkpoint", "/nowhere"), "no file matches 'x/*.jpg'"),
    ],
)
def test_bad_input_is_one_clear_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    error = failure(monkeypatch, capsys, *arguments)
    assert message in error
    assert error.startswith("emastudy: ")
    assert "Traceback" not in error


def test_in_a_checkout_a_profile_that_is_not_there_is_named(monkeypatch, capsys, root):
    monkeypatch.chdir(root)
    assert "no profile 'quik'" in failure(monkeypatch, capsys, "study", "--profile", "quik")


@pytest.mark.parametrize("command", [("claims",), ("findings",), ("audit", "scenes"), ("study",)])
def test_outside_a_checkout_the_command_says_where_it_looked(
    monkeypatch, capsys, tmp_path, command
):
    monkeypatch.chdir(tmp_path)
    said = failure(monkeypatch, capsys, *command)
    assert re.match(rf"emastudy: no .*{re.escape(str(tmp_path))}.*checkout", said)


def test_claims_prints_the_ledger(monkeypatch, capsys, root):
    monkeypatch.chdir(root)
    out = command(monkeypatch, capsys, "claims", "C3", "C12", "--profile", "scenes")
    assert re.search(r"^C3 .*\(5\.4\)$", out, re.M)
    assert re.search(
        r"^     contradicted  θ linear, as in the block +the block's output", out, re.M
    )
    assert re.search(r"^     \w+ +scenes, detached gradient +no norm less LN.* seeds$", out, re.M)
    assert "C1 " not in out
    assert "no claim 'C99'" in failure(monkeypatch, capsys, "claims", "C99")
    assert "no profile 'scene'" in failure(monkeypatch, capsys, "claims", "--profile", "scene")

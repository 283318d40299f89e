"""The command ``emastudy data``."""

import hashlib
import re
import sys
import tarfile

import pytest
from layouts import make_folder

from emastudy import cli
from emastudy.datasets import DATASETS
from emastudy.datasets.download import Archive


def data(monkeypatch, capsys, *arguments):
    """What the command prints, and how it ends (None = well)."""
    monkeypatch.setattr(sys, "argv", ["emastudy", "data", *map(str, arguments)])
    end = None
    try:
        cli.main()
    except SystemExit as error:
        end = error.code
    printed = capsys.readouterr()
    return printed.out, printed.err if end == 2 else end


def test_without_a_name_it_lists_the_datasets(monkeypatch, capsys):
    out, end = data(monkeypatch, capsys)
    assert end is None
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(DATASETS)
    assert all(kind.title in out for kind in DATASETS.values())


def test_a_name_describes_the_dataset(monkeypatch, capsys):
    out, end = data(monkeypatch, capsys, "voc2012")
    assert end is None
    assert re.search(r"15 +person +#c08080", out)
    assert re.search(r"trainaug: 10,582 images, optional", out)
    assert "Everingham" in out
    assert "ignored  255" in out


def test_a_root_is_checked(monkeypatch, capsys, tmp_path):
    root = make_folder(tmp_path)
    out, end = data(monkeypatch, capsys, "folder", "--root", root)
    assert end is None
    assert re.search(r"train +2 images", out)
    assert out.endswith("no problems\n")

    (root / "images" / "train" / "a.jpg").unlink()
    (root / "masks" / "val" / "c.png").write_bytes(b"")
    out, end = data(monkeypatch, capsys, "folder", "--root", root)
    assert re.search(r"- .*a\.jpg is missing", out)
    assert re.search(r"- .*c\.png cannot be read", out)
    assert end == f"emastudy: {root}: 2 problems"


def test_options_are_passed_on(monkeypatch, capsys, tmp_path):
    out, end = data(
        monkeypatch, capsys, "folder", "--root", make_folder(tmp_path),
        "--dataset-options", "classes=[unicorn]",
    )  # fmt: skip
    assert "folder has no 'unicorn'; it has sound, crack" in out
    assert "1 problem" in end


def test_download_fetches_then_checks(monkeypatch, capsys, tmp_path, web):
    make_folder(tmp_path / "data")
    with tarfile.open(tmp_path / "data.tar", "w") as file:
        file.add(tmp_path / "data", arcname=".")
    md5 = hashlib.md5((tmp_path / "data.tar").read_bytes()).hexdigest()
    source = Archive(f"{web}/data.tar", md5)
    monkeypatch.setattr(DATASETS["folder"], "archives", (source,))
    root = tmp_path / "root"
    for _ in range(2):
        out, end = data(monkeypatch, capsys, "folder", "--root", root, "--download")
        assert end is None
        assert out.endswith("no problems\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cityscapes",), "there are camvid, coco_stuff"),
        (("camvid", "--download"), "download needs root"),
        (("scenes", "--root", "."), "is drawn, not read"),
        (("folder", "--root", ".", "--download"), "no public address; lay it out by hand"),
        (("camvid", "--root", "/nowhere"), "1 problem"),
    ],
)
def test_bad_input_is_one_clear_line(monkeypatch, capsys, arguments, message):
    _, end = data(monkeypatch, capsys, *arguments)
    assert message in end


def test_data_of_ones_own_are_opened_and_checked(monkeypatch, capsys, my_module):
    out, end = data(monkeypatch, capsys, "my_module:Few")
    assert end is None
    assert "train      20 images of 32×32 pixels; 3 classes: texture 0, texture 1, texture 2" in out
    assert out.endswith("my_module:Few: no problems\n")

    my_module.write_text(
        my_module.read_text()
        + """
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        wrong = 7 * (index == 5) * (self.split == "val")
        return image[:, index:], mask.clamp(max=1)[index:] + wrong
"""
    )
    out, end = data(monkeypatch, capsys, "my_module:Few", "--dataset-options", "num_images=6")
    assert "train      6 images of 27×32 to 32×32 pixels" in out
    assert "split 'train': 1 of 3 classes, 'texture 2', occur in none of its 6 masks" in out
    assert "- dataset 'Few': item 5 of split 'val' has the value 7 in its mask" in out
    assert end == "emastudy: my_module:Few: 1 problems"

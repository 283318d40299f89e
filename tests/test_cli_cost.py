import re
import sys

import pytest

from emastudy import cli


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["emastudy", "cost", *words])
    cli.main()


def test_cost_prints_whole_and_parts(monkeypatch, capsys):
    run(monkeypatch, "emanet", "--backbone-options", "deep_stem=true")
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[:4]}
    assert table["whole"][:2] == ["232.99", "52.632"]
    assert table["backbone"][:2] == ["189.89", "42.624"]
    assert table["head"][:2] == ["43.10", "10.008"]


def test_cost_times_when_asked(monkeypatch, capsys):
    run(monkeypatch, "fcn", "--backbone", "small_resnet", "--output-stride", "4", "--size", "64",
        "--head-options", "channels=8", "--repeats", "1")  # fmt: skip
    assert re.search(r"forward pass: \d+\.\d+ s", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("option", "value"), [("repeats", "-1"), ("num-classes", "-3"), ("size", "0")]
)
def test_numbers_out_of_range_are_named(monkeypatch, capsys, option, value):
    with pytest.raises(SystemExit):
        run(monkeypatch, "fcn", "--backbone", "small_resnet", "--output-stride", "4",
            f"--{option}", value)  # fmt: skip
    said = capsys.readouterr().err
    assert f"emastudy: {option.replace('-', '_')} is {value}; expected a whole number" in said


def test_cost_of_an_unknown_network_lists_those_that_exist(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "unet")
    assert re.search(r"head is 'unet'; there are .*deeplabv3plus", capsys.readouterr().err)


@pytest.mark.parametrize("repeats", ["0", "1"])
def test_a_unit_that_wants_values_cannot_be_counted(monkeypatch, capsys, my_module, repeats):
    my_module.write_text(my_module.read_text().replace("self.weight *", "x.mean().item() *"))
    with pytest.raises(SystemExit):
        run(monkeypatch, "my_module:Mean", "--backbone", "small_resnet", "--output-stride", "4",
            "--size", "64", "--head-options", "channels=8", "--repeats", repeats)  # fmt: skip
    assert re.search(
        r"cost cannot be counted: .*my_module.py, line \d+, in Mean.forward .*meta tensors, which "
        r"have shapes and no values: do without \.item\(\)", capsys.readouterr().err
    )  # fmt: skip


def test_cost_says_that_parts_may_be_ones_own(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert "my_module:MyUnit" in shown
    assert "my_module:MyBackbone" in shown

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
    assert "forward pass: 0." in capsys.readouterr().out


def test_cost_of_an_unknown_network_lists_those_that_exist(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "unet")
    assert re.search(r"head is 'unet'; there are .*deeplabv3plus", capsys.readouterr().err)

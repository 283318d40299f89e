"""The page's examples, run as they stand there."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from emastudy import EMAU

PAGE = Path(__file__).parents[2] / "book" / "emau_elsewhere.md"
BLOCKS = re.findall(r"^## (\w+).*?^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
OPTIONAL = {"timm": "timm", "segmentation_models_pytorch": "segmentation_models_pytorch"}


def test_every_block_is_found():
    assert [name for name, _ in BLOCKS] == [
        "torchvision",
        "timm",
        "segmentation_models_pytorch",
        "Training",
        "Exporting",
    ]
    assert PAGE.read_text().count("```python") == len(BLOCKS)


# torch.export traces with symbolic sizes, which are no int to the shape checks.
UNCHECKED = {"Exporting": [pytest.mark.unchecked]}


@pytest.mark.parametrize(
    ("name", "code"),
    [pytest.param(*block, id=block[0], marks=UNCHECKED.get(block[0], ())) for block in BLOCKS],
)
def test_the_example_runs_in_ten_lines(name, code):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason="in the extra 'dev'")
    assert len([line for line in code.splitlines() if line]) <= 10
    torch.manual_seed(0)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    modules = [value for value in names.values() if isinstance(value, nn.Module)]
    units = [m for module in modules for m in module.modules() if isinstance(m, EMAU)]
    assert units
    if name == "Exporting":  # the example compares with the unit by itself, in evaluation mode
        assert not units[0].training
        return
    for unit in units:
        assert unit.training
        # One forward pass has moved the bases off the unit sphere: they are maintained.
        assert not torch.allclose(unit.bases.norm(dim=1), torch.ones(len(unit.bases)), atol=1e-4)
    if "logits" in names:
        logits = names["logits"]
        assert logits.shape[:2] == (2, 21)
        logits.square().mean().backward()
        for module in modules:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    assert parameter.grad.isfinite().all()
        assert all(unit.conv2.weight.grad is not None for unit in units)

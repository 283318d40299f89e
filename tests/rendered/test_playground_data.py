"""The data of the book's playground."""

import importlib.util
import json

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture(scope="module")
def maker(root):
    spec = importlib.util.spec_from_file_location("make", root / "book" / "make_playground.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path):
    """The data of the script."""
    return json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))


def test_any_feature_map_makes_data(maker, tmp_path):
    torch.manual_seed(0)
    features = torch.randn(30, 6, 8).relu()
    made = maker.playground_data(
        torch.rand(3, 48, 64), features, credit="a", origin="b", channels=30
    )
    maker.write_playground(tmp_path / "data.js", made)
    assert read(tmp_path / "data.js") == made
    assert (made["height"], made["width"], made["share"]) == (6, 8, 1.0)
    x, y = features.flatten(1).T.double(), torch.tensor(made["features"]).double() / 100
    assert_close(y @ y.mT, x @ x.mT, rtol=0, atol=1.0)
    # LayerNorm takes away what matters least.
    last = torch.linalg.svdvals(x)[-1]
    assert_close((y.sum(dim=1) / 30**0.5).norm(), last, rtol=0.05, atol=0.05)


def test_the_cat_is_made_from_the_network_that_it_names(maker, root):
    data = read(root / "book" / "playground" / "cat.js")
    x = torch.tensor(data["features"], dtype=torch.float64) / 100
    made = maker.cat()
    again = torch.tensor(made["features"], dtype=x.dtype) / 100
    # Inner products: a singular vector's sign is its library's choice.
    assert_close(again @ again.mT, x @ x.mT, rtol=1e-2, atol=1.0)
    assert made["share"] == data["share"]

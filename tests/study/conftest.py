"""A run that takes a second, where it happens, and made-up costs."""

import matplotlib as mpl
import pandas as pd
import pytest
from study.tiny import TINY

from emastudy.engine import Runtime
from emastudy.study.claims import cost
from emastudy.study.claims.claim import _judged
from emastudy.study.runs.forks import SHARED, ForkServer


@pytest.fixture(autouse=True)
def default_style():
    """Each test draws in matplotlib's own style, whatever one before it has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


@pytest.fixture(scope="session")
def _fork_server():
    server = ForkServer()
    server.start()
    return server


@pytest.fixture
def one_fork_server(_fork_server, monkeypatch):
    """One server forks the processes of all tests that ask for it: to start one takes seconds."""
    monkeypatch.setenv(SHARED, _fork_server.address)


@pytest.fixture
def tiny():
    return TINY


@pytest.fixture
def runtime(tmp_path):
    return Runtime(runs_dir=str(tmp_path / "runs"), device="cpu", threads=1)


@pytest.fixture
def cheap_costs(monkeypatch):
    """Table 1's costs, made up: counting them takes a while."""
    methods = ["DeepLabV3", "DeepLabV3+", "PSANet", "EMANet (512)"]
    costs = pd.DataFrame({"gmacs": [6, 8, 5, 4], "mparams": [6, 8, 5, 4]}, methods)
    costs["kept_mib"] = [7.0, 8.0, 9.0, 4.0]
    monkeypatch.setattr(cost, "table1", lambda: costs)
    _judged.cache_clear()
    yield costs
    _judged.cache_clear()

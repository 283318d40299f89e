"""Fixtures of all tests. Shapes and types in the package's signatures are checked here only.

torch.compile cannot see through those checks, and they refuse some bad input before the package
can; the tests concerned are marked ``unchecked`` and run with SHAPE_CHECKS=0, as make test does.
"""

import collections
import functools
import os
import signal
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
SHAPE_CHECKS = os.environ.get("SHAPE_CHECKS", "1") == "1"
if SHAPE_CHECKS:
    # Jaxtyping checks shapes and types and is slow; where no shapes are, types alone are checked.
    FILES = [p for p in sorted(ROOT.glob("emastudy/**/*.py")) if "jaxtyping" in p.read_text()]
    SHAPED = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES]
    # What custom operators are made from beartype's hook must not have decorated.
    SHAPED += ["emastudy.networks.graphs"]
    install_import_hook(SHAPED, "beartype.beartype")
    # Nor what wraps functions to check what they are called with; it is called a million times.
    others = (*SHAPED, "emastudy.options")
    rest = BeartypeConf(claw_is_pep526=False, claw_skip_package_names=others)
    beartype_package("emastudy", conf=rest)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from layouts import make_voc  # noqa: E402
from xdist.scheduler.loadfile import LoadFileScheduling  # noqa: E402

# Started in the background, a shell has processes ignore Ctrl-C; tests of Ctrl-C must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a GPU Triton's kernels run in its interpreter, which has to be said before its import; but
# not where torch.compile is tested, which uses Triton, too.
if SHAPE_CHECKS and not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same cases each time; pytest --hypothesis-profile=explore draws others, and more.
settings.register_profile("emastudy", deadline=None, max_examples=30, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("emastudy")
torch.set_num_threads(1)

# Where real photographs may lie; the project works, and is tested, without them.
SHARED = Path(os.environ.get("EMASTUDY_DATA", ROOT.parent / "shared"))


def pytest_addoption(parser):
    parser.addoption(
        "--record-slow",
        action="store_true",
        help="write the files whose tests took more than a few seconds to tests/slow.txt",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="keep pictures of the book's pages in build/screenshots",
    )


def pytest_configure(config):
    if config.getoption("--record-slow") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SlowFiles())


def pytest_collection_modifyitems(config, items):
    slow = set(SlowFiles.PATH.read_text().split())
    for item in items:
        if _file(item) in slow or _wants_the_book(item):
            item.add_marker(pytest.mark.slow)
        if SHAPE_CHECKS and item.get_closest_marker("unchecked"):
            item.add_marker(pytest.mark.skip(reason="wants SHAPE_CHECKS=0 pytest -m unchecked"))
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=_place)


# Its tests, which take some seconds each, are dealt to all processes.
PAGES = "rendered/test_pages.py"


class Scheduling(LoadFileScheduling):
    """The tests of a file stay together, and share what it sets up; those of the pages do not."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return f"{file} {_third(nodeid)}" if file.endswith(PAGES) else file


def _third(nodeid):
    return zlib.crc32(nodeid.encode()) % 3


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def _place(item):
    """What takes longest first, that the processes end together: Slurm, and making the book.

    The other tests that want the book last, not to wait for it.
    """
    if _file(item) == "study/runs/test_slurm.py" or (
        _file(item) == PAGES and _third(item.nodeid) == 0
    ):
        return 0
    return 2 if _file(item) == PAGES else 3 if _wants_the_book(item) else 1


def _wants_the_book(item):
    return not {"built", "executed"}.isdisjoint(item.fixturenames)


def _file(item):
    return item.path.relative_to(ROOT / "tests").as_posix()


class SlowFiles:
    """Writes which files are slow, all their tests together, for the marker ``slow``."""

    PATH = Path(__file__).with_name("slow.txt")
    SECONDS = 5.0

    def __init__(self):
        self.seconds = collections.Counter()

    def pytest_runtest_logreport(self, report):
        self.seconds[report.location[0].removeprefix("tests/")] += report.duration

    def pytest_sessionfinish(self):
        names = {name for name, seconds in self.seconds.items() if seconds > self.SECONDS}
        names |= set(self.PATH.read_text().split()) - self.seconds.keys()  # that were not run
        self.PATH.write_text("\n".join([*sorted(names), ""]))


MY_MODULE = '''
import numpy as np
import torch
from torch import nn

from emastudy import EMAU
from emastudy.datasets import Scenes
from emastudy.networks import Backbone


class Mean(nn.Module):
    """Every pixel gets a conv of the mean over all."""

    def __init__(self, channels, weight: float = 1.0):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.weight = weight

    def forward(self, x):
        return x + self.weight * self.conv(x.mean((2, 3), keepdim=True))


class Small(Backbone):
    def __init__(self, weights=None, width: int = 8):
        stages = [
            nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU())
            for channels in (3, width)
        ]
        super().__init__(stages, (width, width), native_stride=4)


class Few(Scenes):
    def __init__(self, split="train", num_images: int = 20):
        super().__init__(split, num_images=num_images, num_classes=3, size=32)
        self.mean = np.array((0.5, 0.4, 0.3), dtype=np.float64)
        self.palette = np.full((3, 3), (1, 2, 3), np.uint8)
'''


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws does not hang on those before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def shared(*parts: str) -> Path:
    """Something real that lies beside the project; the test that wants it skips where it is not."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"absent: {path} (EMASTUDY_DATA says where to look)")
    return path


@pytest.fixture(scope="session")
def paper_claims() -> list[str]:
    """The rows of the list of claims that was written before any run."""
    lines = shared("paper", "CLAIMS.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| C")]


@pytest.fixture(scope="session")
def animals_root() -> Path:
    return shared("data", "voc2012-animals")


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    return shared("data", "camvid")


@pytest.fixture(scope="session")
def mobilenet_weights() -> Path:
    return shared("weights", "mobilenet_v2_imagenet_features.pth")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Address under which this machine serves the folder tmp_path to itself."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with _served(Quiet, tmp_path) as address:
        yield address


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A proxy that answers for every http server with the files of tmp_path, and refuses https."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(f"GET {self.path}")
            self.path = "/" + self.path.rpartition("/")[2]
            super().do_GET()

        def do_CONNECT(self) -> None:
            asked.append(f"CONNECT {self.path}")
            self.send_error(403)

    with _served(Handler, tmp_path) as address:
        yield SimpleNamespace(address=address, asked=asked)


@contextmanager
def _served(kind: type[SimpleHTTPRequestHandler], folder: Path) -> Iterator[str]:
    handler = functools.partial(kind, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """my_module.py in the working directory, with parts as somebody writes them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_module.py"
    path.write_text(MY_MODULE)
    yield path
    sys.modules.pop("my_module", None)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """A VOC of three images of different sizes, in the official layout."""
    return make_voc(tmp_path / "VOC2012")

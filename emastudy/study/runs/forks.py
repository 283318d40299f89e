"""Processes that are forked from a server which has imported everything.

Importing takes a process some seconds of the processor, a fork next to nothing. Each process still
has an environment, a working directory and an output of its own, and what is around it is
submitit's or Jupyter's: where those would start Python for a run or a notebook, they start this
file, which has the server fork a process and stands for it. It is only for what computes on CPUs,
for CUDA does not survive a fork, and only for Linux.
"""

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from shutil import rmtree

#: Environment variable with the address of a server that was started for several sweeps.
SHARED = "EMASTUDY_FORKS"
# What a run imports where it uses it; the rest came with this module.
_MODULES = (
    "emastudy.study.runs.job",
    "torch.utils.tensorboard",
    "torchmetrics.classification",
    "torchvision.transforms.v2",
)


class ForkServer:
    """A server: the one of ``SHARED``, or one that ends with this object.

    The processes that it forked go on by themselves.

    Args:
        modules: What it imports beside what runs need, with these variables in this working
            directory, or "module:function", which it calls.
    """

    def __init__(
        self,
        *modules: str,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._code = f"from emastudy.study.runs.forks import serve; serve({{}}, *{modules!r})"
        self._environment = {**os.environ, **(environment or {})}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        #: Where it listens.
        self.address = shared()
        self._shared = bool(self.address)
        if not self._shared:
            folder = tempfile.mkdtemp(prefix="emastudy-")  # for this user only
            self.address = str(Path(folder) / "server")
            weakref.finalize(self, rmtree, folder, ignore_errors=True)

    def command(self, function: str) -> list[str]:
        """What to start in place of Python: it has the server call "module:name", in a process.

        It is called with the list of the command's arguments.
        """
        # Without the paths of scripts and packages: it needs nothing of them, and this file's
        # neighbours have names of the standard library.
        return [sys.executable, "-P", "-S", __file__, self.address, function]

    def start(self) -> None:
        """Start the server where it does not run; processes may ask at once, and wait."""
        if self._shared or self._process is not None:
            return
        with socket.socket(socket.AF_UNIX) as listener, blocked(signal.SIGINT):
            listener.bind(self.address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", self._code.format(listener.fileno())],
                stdin=subprocess.PIPE,
                env=self._environment,
                cwd=self._directory,
                pass_fds=[listener.fileno()],
            )
        weakref.finalize(self, _end, self._process)


def shared() -> str:
    """Address of a server that was started for several sweeps; "" where none is."""
    address = os.environ.get(SHARED, "")
    return address if Path(address).is_socket() else ""


@contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Hold back a signal; processes that start in here never see it.

    Ctrl-C reaches all processes of a terminal. Runs shall not die of it but hear of it from the
    sweep.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(listener: int, *modules: str) -> None:
    """Import modules, then fork a process for each that asks, until standard input ends."""
    for name in (*_MODULES, *modules):
        module, _, function = name.partition(":")
        imported = import_module(module)
        if function:
            getattr(imported, function)()
    # Garbage collection would visit everything that was imported, in every process, and so have all
    # of that memory copied.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the processes end
    with socket.socket(fileno=listener) as server:
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            asking, _ = server.accept()
            if os.fork() == 0:
                break
            asking.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    function, arguments = _become(asking)
    module, _, name = function.partition(":")
    try:
        getattr(import_module(module), name)(arguments)
    except SystemExit as stop:  # submitit's way to ask for another turn is an exit code
        asking.sendall(f"{stop.code or 0}\n".encode())
        raise
    asking.sendall(b"0\n")


def _become(asking: socket.socket) -> tuple[str, list[str]]:
    """Take over environment, working directory and output of who asks; returns what it wants."""
    _, outputs, *_ = socket.recv_fds(asking, 1, 2)
    environment, directory, function, arguments = json.loads(asking.makefile().readline())
    with Path(os.devnull).open() as nothing:
        for number, file in enumerate((nothing.fileno(), *outputs)):
            os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    asking.sendall(f"{os.getpid()}\n".encode())
    return function, arguments


def ask(address: str, function: str, *arguments: str) -> int:
    """Have the server fork a process for a call, and stand for it; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"."], [sys.stdout.fileno(), sys.stderr.fileno()])
        request = json.dumps([dict(os.environ), str(Path.cwd()), function, arguments])
        server.sendall(f"{request}\n".encode())
        answers = server.makefile()
        process = int(answers.readline())

        def pass_on(number: int, _: object) -> None:
            with suppress(ProcessLookupError):
                os.kill(process, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, pass_on)
        return int(answers.readline() or 1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


if __name__ == "__main__":
    sys.exit(ask(*sys.argv[1:]))

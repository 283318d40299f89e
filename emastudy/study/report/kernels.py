"""The processes that notebooks run in: this interpreter's, and on CPUs forked with all imported."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from emastudy.errors import EmastudyError
from emastudy.study.claims import judge, load_evidence
from emastudy.study.runs.forks import SHARED, ForkServer, shared

# A kernel talks to this machine alone: that it does so unencrypted is no news, nor is the interrupt
# that comes before its end, nor that one told to end finds its sockets closed already. What a cell
# raises is told by other ways.
_QUIET = {n: {"level": "CRITICAL"} for n in ("asyncio", "tornado.application", "tornado.general")}
_ARGUMENTS = ["--log-level=CRITICAL", f"--IPKernelApp.logging_config={ {'loggers': _QUIET} }"]
# What pages import, and all compute, beside what runs do.
_MODULES = (
    "ipykernel.kernelapp",
    "emastudy.study.report",
    "emastudy.study.figures",
    "emastudy.engine.walkthrough",
    "sklearn.mixture",
    "emastudy.study.report.kernels:judge_records",
)
# Where figures go is decided when matplotlib is imported; a kernel says so in its environment.
_INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


class Kernel(AsyncKernelManager):
    """A kernel in the interpreter that runs this, whatever Jupyter has under a notebook's name.

    Another environment's kernel named python3 may come first on Jupyter's path, and has no
    emastudy, or an old one.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        usual = get_kernel_dict(extra_arguments=_ARGUMENTS)
        if shared():
            command = ForkServer().command(f"{__name__}:{start.__name__}")
            usual = {**usual, "argv": [*command, "-f", "{connection_file}", *_ARGUMENTS]}
        return KernelSpec(**usual)


def start(arguments: Sequence[str]) -> None:
    """Be a kernel, in a process that was forked for it."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # Ctrl-C in the terminal is not for the kernel
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # OpenMP has read the server's environment, not this one.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    # When the server ends, so does the kernel.
    IPKernelApp.launch_instance(argv=[*arguments], parent_handle=os.getppid())


def judge_records() -> None:
    """Judge the claims once for all pages, whose processes inherit it; some seconds each."""
    # OpenMP's threads do not survive a fork: kernels would wait for them.
    torch.set_num_threads(1)
    with suppress(EmastudyError):  # a page that asks for them says what is wrong
        evidence = load_evidence()
        if any(len(one.records) for one in evidence):
            judge(evidence)


@contextmanager
def forked_kernels(experiments: Path) -> Iterator[None]:
    """Fork kernels, and the runs of their sweeps, from one server, where that can be done.

    Claims are judged by the records of the checkout that the folder lies in.
    """
    if sys.platform != "linux" or torch.cuda.device_count() or shared():
        yield
        return
    server = ForkServer(*_MODULES, environment=_INLINE, directory=experiments)
    server.start()
    os.environ[SHARED] = server.address
    try:
        yield
    finally:
        del os.environ[SHARED], server

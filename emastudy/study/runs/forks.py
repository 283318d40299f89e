"""Processes of local runs, forked from a server that has imported everything.

Importing takes a process some five seconds of the processor, a fork next to nothing. Each run still
has a process, a log and an environment of its own, and what is around it is submitit's: where
submitit would start Python for a job, it starts this file, which has the server fork one and stands
for it. It is only for runs on CPUs, for CUDA does not survive a fork, and only for Linux.
"""

import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path


class ForkServer:
    """The server of one sweep; it ends with this object, and the processes it forked do not."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="emastudy-")  # for this user only
        self._address = str(Path(self._folder) / "server")
        self._process: subprocess.Popen[bytes] | None = None
        #: What submitit is to start in place of Python. Without the paths of scripts and packages:
        #: it needs nothing of them, and this file's neighbours have names of the standard library.
        self.command = shlex.join([sys.executable, "-P", "-S", __file__, self._address])
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server where it does not run; jobs may ask at once, and wait."""
        if self._process is not None:
            return
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen(64)
            code = f"from emastudy.study.runs.forks import serve; serve({listener.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", code],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        weakref.finalize(self, _end, self._process)


def serve(listener: int) -> None:
    """Fork a process for each job that asks, until standard input ends.

    All that a run needs is imported by then: with this module its packages came.
    """
    from submitit.core.submission import process_job

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
    folder = _become(asking)
    try:
        process_job(folder)
    except SystemExit as stop:  # submitit's way to ask for another turn is an exit code
        asking.sendall(f"{stop.code}\n".encode())
        raise
    asking.sendall(b"0\n")


def _become(asking: socket.socket) -> str:
    """Take over environment, working directory and output of who asks; returns its job's folder."""
    _, outputs, *_ = socket.recv_fds(asking, 1, 2)
    environment, directory, folder = json.loads(asking.makefile().readline())
    with Path(os.devnull).open() as nothing:
        for number, file in enumerate((nothing.fileno(), *outputs)):
            os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    asking.sendall(f"{os.getpid()}\n".encode())
    return str(folder)


def ask(address: str, folder: str) -> int:
    """Have the server fork a process for the job, and stand for it; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"."], [sys.stdout.fileno(), sys.stderr.fileno()])
        request = json.dumps([dict(os.environ), str(Path.cwd()), folder])
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
    sys.exit(ask(sys.argv[1], sys.argv[-1]))

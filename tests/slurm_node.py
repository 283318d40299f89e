"""A Slurm of one node, for tests: daemons of the installed packages, all state in one folder.

Wants root (slurmd starts jobs for users) and Debian's packages slurm-wlm and munge, or their like.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

_DAEMONS = ("slurmctld", "slurmd", "munged")


def runs() -> bool:
    """Whether a Slurm answers already."""
    if shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


def obstacle() -> str:
    """Why no Slurm can be started here; "" if one can."""
    missing = [name for name in _DAEMONS if _find(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm and munge)"
    return "" if os.getuid() == 0 else "only root can start slurmd"


class Node:
    """The three daemons. ``environment`` leads Slurm's commands to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Node":
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        (self.folder / "slurm.conf").write_text(self._configuration())
        # --force: munged takes offence at folders below /tmp, which others may write.
        self._start("munged", "--foreground", "--force", f"--key-file={munge}/key",
                    f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                    f"--log-file={munge}/log", f"--seed-file={munge}/seed")  # fmt: skip
        self._await(lambda: (munge / "socket").exists(), "munged")
        self.start_controller()
        self._start("slurmd", "-D")
        idle = ["sinfo", "--noheader", "--format=%T"]
        self._await(lambda: self.ask(*idle).strip() == "idle", "slurmd")
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self._running:
            self.ask("scancel", "--user=root")
        for name in ("slurmd", "slurmctld", "munged"):
            self._stop(name)

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self._start("slurmctld", "-D")
        self._await(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    def stop_controller(self) -> None:
        """Stop slurmctld; the jobs go on."""
        self._stop("slurmctld")

    def ask(self, *command: str) -> str:
        """Output of one of Slurm's commands, "" where it fails."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | self.environment
        )
        return done.stdout if done.returncode == 0 else ""

    def _configuration(self) -> str:
        host, folder = socket.gethostname().partition(".")[0], self.folder
        return "\n".join(
            [
                "ClusterName=tests",
                f"SlurmctldHost={host}(127.0.0.1)",
                f"SlurmctldPort={free_port()}",
                f"SlurmdPort={free_port()}",
                "SlurmUser=root",
                "SlurmdUser=root",
                f"AuthInfo=socket={folder}/munge/socket",
                "ProctrackType=proctrack/linuxproc",
                "TaskPlugin=task/none",
                "SelectType=select/cons_tres",
                "SelectTypeParameters=CR_Core",
                "ReturnToService=2",
                "KillWait=15",
                f"StateSaveLocation={folder}/state",
                f"SlurmdSpoolDir={folder}/spool",
                f"SlurmctldPidFile={folder}/slurmctld.pid",
                f"SlurmdPidFile={folder}/slurmd.pid",
                f"NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN",
                "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
                "",
            ]
        )

    def _start(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._running[name] = subprocess.Popen(
            [_find(name), *arguments], stdout=log, stderr=log, env=os.environ | self.environment
        )
        log.close()

    def _stop(self, name: str) -> None:
        if name in self._running:
            process = self._running.pop(name)
            process.terminate()
            process.wait()

    def _await(self, answer, name: str) -> None:
        for _ in range(300):
            if answer():
                return
            time.sleep(0.1)
        log = (self.folder / f"{name}.log").read_text()[-2000:]
        raise RuntimeError(f"{name} does not answer; its log: {log}")


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]

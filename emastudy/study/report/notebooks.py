"""Runs notebooks through papermill: only what changed, all parameters checked, nothing half done.

Floor: study (imports papermill).
"""

import functools
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from tqdm.auto import tqdm

import emastudy

logger = logging.getLogger(__name__)

# How a notebook is run, not what it shows: changing these does not make a page out of date.
_HOW = ("executor", "device", "runs_dir")


class NotebookError(RuntimeError):
    """A notebook failed, or was given a parameter that it does not have."""


@dataclass(frozen=True)
class Outcome:
    """What happened to one notebook: its name, seconds taken, and whether it was up to date."""

    name: str
    seconds: float
    skipped: bool


def run_notebooks(
    experiments: Path,
    output: Path,
    profile: str,
    *,
    only: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    jobs: int = 1,
) -> list[Outcome]:
    """Execute notebooks with a profile's parameters; those that are up to date are left alone.

    A notebook is out of date when it, its parameters, the package's code or the records of other
    profiles changed since it was executed. Each is written under another name and renamed when it
    has run to its end.

    Args:
        experiments: Folder of the notebooks, ``profiles/`` and ``records/``.
        output: Folder for the executed notebooks.
        profile: Name of a file in ``profiles/``. A notebook takes those of its values that it
            declares.
        only: Names (or beginnings of names) of the notebooks to run; empty = all.
        parameters: Further parameters, for those of the notebooks that declare them; at least one
            must. Empty values count as not given.
        jobs: How many notebooks are executed at a time. More than one for notebooks that train
            nothing: those that do use all cores by themselves.

    Returns:
        One outcome a notebook, in order.

    Raises:
        NotebookError: Unknown profile, notebook or parameter, or a cell that failed.
    """
    path = experiments / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise NotebookError(f"there is no profile {profile!r}; {path.parent} has {there}")
    shared = yaml.safe_load(path.read_text())
    given = {name: value for name, value in (parameters or {}).items() if value != ""}
    every = {p: set(papermill.inspect_notebook(p)) for p in _choose(experiments, ())}
    unknown = set(shared) - set().union(*every.values())
    if unknown:
        raise NotebookError(f"{path} sets {_names(unknown)}, which no notebook declares")
    declared = {notebook: every[notebook] for notebook in _choose(experiments, only)}
    known = set().union(*declared.values())
    if set(given) - known:
        raise NotebookError(
            f"no chosen notebook has a parameter {_names(set(given) - known)}; they have "
            + _names(known)
        )
    output.mkdir(parents=True, exist_ok=True)

    orders = [
        _Order(
            notebook,
            {k: v for k, v in {**shared, **given}.items() if k in declared[notebook]},
            output,
            profile,
            progress_bar=jobs == 1,
        )
        for notebook in declared
    ]
    if jobs == 1:
        return [order.execute() for order in orders]
    # Processes and not threads: papermill changes the working directory of its whole process.
    with _cores_each(jobs), ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        work = [pool.submit(order.execute) for order in orders]
        try:
            return [one.result() for one in tqdm(work, desc="notebooks", unit="notebook")]
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, or Ctrl-C


@dataclass(frozen=True)
class _Order:
    """One notebook to be executed, with all that decides what it shows."""

    notebook: Path
    values: dict[str, Any]
    output: Path
    profile: str
    progress_bar: bool

    def execute(self) -> Outcome:
        experiments, target = self.notebook.parent, self.output / self.notebook.name
        if _stored_digest(target) == self._digest():
            return Outcome(target.stem, 0.0, skipped=True)
        began = time.monotonic()
        partial = target.with_suffix(".partial.ipynb")
        try:
            papermill.execute_notebook(
                self.notebook,
                partial,
                self.values,
                progress_bar=self.progress_bar,
                cwd=experiments,
                log_output=False,
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"{self.notebook} failed in cell {error.cell_index}: {error.ename}: "
                f"{error.evalue}\nThe traceback is in {partial}; mend the cause and run again: "
                "what was finished is kept."
            ) from error
        executed = nbformat.read(partial, as_version=4)  # type: ignore[no-untyped-call]
        executed.metadata["emastudy"] = {"digest": self._digest()}
        executed.metadata.pop("papermill", None)  # holds paths of this machine
        nbformat.write(executed, partial)  # type: ignore[no-untyped-call]
        partial.replace(target)
        return Outcome(target.stem, time.monotonic() - began, skipped=False)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        shown = {name: value for name, value in self.values.items() if name not in _HOW}
        digest.update(self.notebook.read_bytes() + repr(sorted(shown.items())).encode())
        digest.update(_code_digest().encode())
        records = self.notebook.parent / "records"
        for record in sorted(records.rglob("*.json")):
            # Records of its own profile a notebook makes itself; smoke and quick are nobody's
            # evidence.
            if record.relative_to(records).parts[0] not in (self.profile, "smoke", "quick"):
                digest.update(record.read_bytes())
        return digest.hexdigest()


@functools.cache
def _code_digest() -> str:
    """SHA-256 of the package's code, folders within folders included."""
    digest, package = hashlib.sha256(), Path(emastudy.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _cores_each(jobs: int) -> Iterator[None]:
    """A share of the cores for each of several kernels; more threads than cores are slower."""
    name, before = "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")
    if jobs > 1 and before is None:
        os.environ[name] = str(max(1, (os.cpu_count() or 1) // jobs))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


def _choose(experiments: Path, only: Sequence[str]) -> list[Path]:
    every = sorted(experiments.glob("[0-9]*.ipynb"))
    chosen = []
    for name in only:
        stem = Path(name).stem
        matches = [path for path in every if path.stem.startswith(stem)]
        if not matches:
            raise NotebookError(
                f"there is no notebook {name!r}; {experiments} has "
                + ", ".join(path.stem for path in every)
            )
        chosen += matches
    return chosen or every


def _names(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _stored_digest(target: Path) -> str | None:
    if not target.is_file():
        return None
    found = re.search(r'"digest": "([0-9a-f]{64})"', target.read_text())
    return found[1] if found else None

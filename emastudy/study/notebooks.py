"""Runs notebooks through papermill: only what changed, all parameters checked, nothing half done.

Floor: study (imports papermill).
"""

import hashlib
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from emastudy.study.records import source_digest

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

    outcomes = []
    for notebook in declared:
        values = {k: v for k, v in {**shared, **given}.items() if k in declared[notebook]}
        target = output / notebook.name
        digest = _digest(notebook, values, experiments, profile)
        if _stored_digest(target) == digest:
            outcomes.append(Outcome(notebook.stem, 0.0, skipped=True))
            continue
        began = time.monotonic()
        partial = target.with_suffix(".partial.ipynb")
        try:
            papermill.execute_notebook(
                notebook, partial, values, progress_bar=True, cwd=experiments, log_output=False
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"{notebook} failed in cell {error.cell_index}: {error.ename}: {error.evalue}\n"
                f"The traceback is in {partial}; mend the cause and run again: what was finished "
                "is kept."
            ) from error
        executed = nbformat.read(partial, as_version=4)  # type: ignore[no-untyped-call]
        executed.metadata["emastudy"] = {"digest": _digest(notebook, values, experiments, profile)}
        executed.metadata.pop("papermill", None)  # holds paths of this machine
        nbformat.write(executed, partial)  # type: ignore[no-untyped-call]
        partial.replace(target)
        outcomes.append(Outcome(notebook.stem, time.monotonic() - began, skipped=False))
    return outcomes


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


def _digest(notebook: Path, values: Mapping[str, Any], experiments: Path, profile: str) -> str:
    digest = hashlib.sha256()
    shown = {name: value for name, value in values.items() if name not in _HOW}
    digest.update(notebook.read_bytes() + repr(sorted(shown.items())).encode())
    digest.update(source_digest(("em", "networks", "datasets", "engine", "study")).encode())
    records = experiments / "records"
    for record in sorted(records.rglob("*.json")):
        # Records of its own profile a notebook makes itself; smoke and quick are nobody's evidence.
        if record.relative_to(records).parts[0] not in (profile, "smoke", "quick"):
            digest.update(record.read_bytes())
    return digest.hexdigest()


def _stored_digest(target: Path) -> str | None:
    if not target.is_file():
        return None
    found = re.search(r'"digest": "([0-9a-f]{64})"', target.read_text())
    return found[1] if found else None

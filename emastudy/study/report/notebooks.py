"""Running notebooks through papermill: only what changed, parameters checked, nothing half done."""

import functools
import hashlib
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from tqdm.auto import tqdm

import emastudy
from emastudy import options
from emastudy.errors import NotebookError
from emastudy.files import check_writable, write_text
from emastudy.options import PositiveInt
from emastudy.study.report.kernels import Kernel, forked_kernels
from emastudy.study.report.page import PASSING, Page

# How a notebook is run, not what it shows: changing these does not make a page out of date.
_HOW = ("executor", "device", "runs_dir")
# For fewer notebooks the imports of a server that forks them take longer than they spare.
_WORTH_A_SERVER = 3


@dataclass(frozen=True)
class Outcome:
    """What happened to one notebook: its name, seconds taken, and whether it was up to date."""

    name: str
    seconds: float
    skipped: bool


@options.checked
def run_notebooks(
    experiments: Path,
    output: Path,
    profile: str,
    *,
    only: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    jobs: PositiveInt = 1,
) -> list[Outcome]:
    """Execute notebooks with a profile's parameters; those that are up to date are left alone.

    A notebook is out of date when it, its parameters, the package's code or the records changed
    since it was executed; those of "smoke" and "quick" do not count. It runs in the interpreter
    that runs this, whatever kernels are registered with Jupyter. Each is written under another name
    and renamed when it has run to its end.

    Args:
        experiments: Folder of the notebooks, ``profiles/`` and ``records/``.
        profile: Name of a file in ``profiles/``. A notebook takes those of its values that it
            declares.
        only: Names (or beginnings of names) of the notebooks to run; empty = all.
        parameters: Further parameters, for those of the notebooks that declare them; at least one
            must. Empty values count as not given.
        jobs: How many notebooks are executed at a time. Those that measure times (they have a
            parameter ``repeats``) are executed one by one, after the others.

    Returns:
        One outcome a notebook, in order.

    Raises:
        NotebookError: Unknown profile, notebook or parameter, or a cell that failed.
        InputError: A parameter of another type, or out of its range.
        WriteError: The folder for the executed notebooks cannot be written.
    """
    settings = _settings(experiments / "profiles" / f"{profile}.yaml")
    given = {name: value for name, value in (parameters or {}).items() if value != ""}
    notebooks = sorted(experiments.glob("[0-9]*.ipynb"))
    every = {path: _declared(path) for path in notebooks}
    chosen = {path: every[path] for path in _choose(experiments, notebooks, only)}
    _check_parameters(settings, every, f"profile {profile!r} sets", "no notebook")
    _check_parameters(given, chosen, "given is", "none of the chosen notebooks")
    for source, values in ((f"profile {profile!r}", settings), ("", given)):
        options.check_types(source, values, Page)
        for declared in chosen.values():
            options.check_values(source, values, declared)
    values = {**settings, **given}
    orders = []
    for path, declared in chosen.items():
        mine = {name: value for name, value in values.items() if name in declared}
        orders.append(_Order(path, mine, output, timed="repeats" in declared))
    check_writable(output, "choose another with output (--output for the command)")
    return _execute(orders, jobs)


def _settings(path: Path) -> dict[str, Any]:
    """The parameters that a profile sets."""
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise NotebookError(f"there is no profile {path.stem!r}; {path.parent} has {there}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise NotebookError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise NotebookError(f"{path} holds no parameters; expected lines such as 'seeds: 2'")
    return settings


def _declared(notebook: Path) -> dict[str, object]:
    """The parameters of a notebook and their types; of texts, which take a number for one, none."""
    types = {"int": int, "float": float, "bool": bool}
    parameters = papermill.inspect_notebook(notebook)
    return {name: types.get(found["inferred_type_name"]) for name, found in parameters.items()}


def _check_parameters(
    values: Mapping[str, Any], declared: Mapping[Path, Collection[str]], origin: str, who: str
) -> None:
    """Papermill only warns of a parameter that a notebook lacks; here one of them must have it."""
    known = set[str]().union(*declared.values())
    if unknown := set(values) - known:
        raise NotebookError(
            f"{origin} {_names(unknown)}, which {who} declares; there are {_names(known)}"
        )


def _execute(orders: Sequence["_Order"], jobs: int) -> list[Outcome]:
    """Execute what is out of date, with one bar over all notebooks."""
    outcomes = {order.name: Outcome(order.name, 0.0, skipped=True) for order in orders}
    waiting = [order for order in orders if not order.is_up_to_date()]
    kernels: AbstractContextManager[None] = nullcontext()
    if len(waiting) >= _WORTH_A_SERVER:
        kernels = forked_kernels(waiting[0].notebook.parent)
    # smoothing=0: the time left follows from the mean of all notebooks, not from the last one's.
    done = len(orders) - len(waiting)
    bar = tqdm(total=len(orders), initial=done, desc="notebooks", unit="notebook", smoothing=0)
    with bar, kernels:
        for outcome in _outcomes(waiting, jobs, bar):
            outcomes[outcome.name] = outcome
            bar.update()
    return list(outcomes.values())


def _outcomes(orders: Sequence["_Order"], jobs: int, bar: Any) -> Iterator[Outcome]:
    beside = [order for order in orders if not order.timed] if jobs > 1 else []
    if beside:
        # Processes and not threads: papermill changes the working directory of its whole process.
        with ProcessPoolExecutor(jobs, get_context("spawn"), _share_cores, (jobs,)) as pool:
            work = [pool.submit(order.execute) for order in beside]
            try:
                for one in as_completed(work):
                    yield one.result()
            finally:
                pool.shutdown(cancel_futures=True)  # after a failure, or Ctrl-C
    for order in orders:
        if order not in beside:
            bar.set_postfix_str(order.name)
            yield order.execute()


@dataclass(frozen=True)
class _Order:
    """One notebook to be executed, with all that decides what it shows."""

    notebook: Path
    values: dict[str, Any]
    output: Path
    #: Whether it measures times, which whatever runs beside it would make longer.
    timed: bool

    @property
    def name(self) -> str:
        return self.notebook.stem

    @property
    def target(self) -> Path:
        return self.output / self.notebook.name

    def is_up_to_date(self) -> bool:
        done = self.target.read_text(encoding="utf-8") if self.target.is_file() else ""
        return f'"digest": "{self._digest()}"' in done

    def execute(self) -> Outcome:
        began = time.monotonic()
        self.output.mkdir(parents=True, exist_ok=True)
        partial = self.target.with_suffix(".partial.ipynb")
        try:
            executed = papermill.execute_notebook(
                self.notebook,
                partial,
                self.values,
                progress_bar=False,
                cwd=self.notebook.parent,
                log_output=False,
                # The first kernel waits for its server's imports; one that dies is noticed at once.
                start_timeout=600,
                kernel_manager_class=Kernel,
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"{self.notebook} failed in cell {error.cell_index}: {error.ename}: "
                f"{error.evalue}\nThe traceback is in {partial}; fix the cause and run again: "
                "what was finished is kept."
            ) from error
        executed.metadata["emastudy"] = {"digest": self._digest()}
        executed.metadata.pop("papermill", None)  # holds paths of this machine
        for cell in executed.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.metadata["tags"].append("hide-input")
                cell.metadata["mystnb"] = {"code_prompt_show": "Parameters of this copy"}
        write_text(self.target, nbformat.writes(executed))  # type: ignore[no-untyped-call]
        partial.unlink()
        return Outcome(self.name, time.monotonic() - began, skipped=False)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        shown = {name: value for name, value in self.values.items() if name not in _HOW}
        digest.update(self.notebook.read_bytes() + repr(sorted(shown.items())).encode())
        digest.update(_code_digest().encode())
        records = self.notebook.parent / "records"
        for record in sorted(records.rglob("*.json")):
            if record.relative_to(records).parts[0] not in PASSING:
                digest.update(record.read_bytes())
        # Page 32 shows them.
        for kept in sorted(self.notebook.parents[1].glob("benchmarks/results/*.json")):
            digest.update(kept.read_bytes())
        return digest.hexdigest()


@functools.cache
def _code_digest() -> str:
    """SHA-256 of the package's code, folders within folders included."""
    digest, package = hashlib.sha256(), Path(emastudy.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _share_cores(jobs: int) -> None:
    """Kernels that this process starts share the cores: more threads than cores are slower."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))


def _choose(folder: Path, every: Sequence[Path], only: Sequence[str]) -> Sequence[Path]:
    chosen = []
    for name in only:
        matches = [path for path in every if path.stem.startswith(Path(name).stem)]
        if not matches:
            there = f"{folder} has {', '.join(path.stem for path in every)}"
            raise NotebookError(f"there is no notebook {name!r}; {there}")
        chosen += matches
    return chosen or every


def _names(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))

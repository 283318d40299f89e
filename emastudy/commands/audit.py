"""``emastudy audit``: recorded runs trained anew."""

import sys
from dataclasses import dataclass

import tyro

from emastudy.engine import Runtime
from emastudy.study import runs_folder
from emastudy.study.runs import TOLERANCE, audit, recorded_folder


@dataclass(frozen=True)
class AuditRuntime(Runtime):
    """Where an audit happens: it keeps one checkpoint of a run, and that until the run is done."""

    #: Folder for what the audit trains, removed when it is done; default runs/audit of this
    #: checkout.
    runs_dir: str = ""
    keep_checkpoints: tyro.conf.Suppress[int] = 1
    validate_every: tyro.conf.Suppress[int] = 0


def command(
    profile: tyro.conf.Positional[str],
    ids: tyro.conf.Positional[tuple[str, ...]] = (),
    sample: int = 8,
    seed: int = 0,
    executor: str = "local",
    runtime: AuditRuntime = AuditRuntime(),
) -> None:
    """Train recorded runs anew and say whether their records hold; exit status 1 if one does not.

    For example: emastudy audit scenes --sample 25

    Args:
        profile: Folder of experiments/records.
        ids: Runs to audit in any case.
        sample: Without ids: runs to draw at random from those that no audit covers yet; 0 only
            shows the audits there are.
        seed: Of the draw.
        executor: Where runs are trained, as for the command study.
        runtime: Where to compute.
    """
    runs_dir = runtime.runs_dir or str(runs_folder() / "audit")
    found = audit(
        recorded_folder(profile),
        Runtime(**{**vars(runtime), "runs_dir": runs_dir}),
        sample=0 if ids else sample,
        seed=seed,
        ids=ids,
        executor=executor,
    )
    if found.empty:
        print(f"no run of {profile} has been audited")
        return
    rounded = found.round({"recorded": 2, "again": 2, "difference": 3, "loss": 4})
    held = int(found["holds"].sum())
    print(
        f"{rounded.to_string(index=False)}\n\n"
        f"{held} of {len(found)} hold: within {TOLERANCE['miou']} mIoU and a mean distance of "
        f"the loss curves of {TOLERANCE['loss']} nats"
    )
    if held < len(found):
        sys.exit(1)

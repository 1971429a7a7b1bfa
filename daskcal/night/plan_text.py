"""A plan as text for people."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dask.utils import format_bytes

if TYPE_CHECKING:
    from daskcal.night.plan import Job, Plan


def plan_text(plan: Plan) -> str:
    """What will be made, from what, why; what is missing; what is skipped; how much it is."""
    lines = [f"{plan.folder}: {len(plan.frames)} frames", *_types(plan), ""]
    lines += ["will be made:"]
    for job in plan.jobs:
        lines += _job(plan, job)
    if plan.missing:
        lines += ["", "cannot be made:"]
        lines += [f"  {m.name}: {m.reason}" for m in plan.missing]
    lost = [f"  {bad.path}: {bad.message}" for bad in plan.unreadable]
    lost += [f"  {plan.relative(i)}: {reason}" for i, reason in sorted(plan.skipped.items())]
    if lost:
        lines += ["", "skipped:", *lost]
    if plan.messages:
        lines += ["", *plan.messages]
    lines += ["", f"reads {format_bytes(plan.bytes_in)}, writes about {_out(plan)}, {_memory()}"]
    return "\n".join(lines)


def room_text(plan: Plan, output: Path) -> str:
    """Whether the products fit into the output folder's file system."""
    here = next(p for p in (output.absolute(), *output.absolute().parents) if p.exists())
    free = shutil.disk_usage(here).free
    fits = "fit into" if plan.bytes_out <= free else "do NOT fit into"
    return f"products {fits} {output}: {format_bytes(free)} are free"


def _types(plan: Plan) -> list[str]:
    rows = plan.table[["imagetyp", "filter", "exptime"]].itertuples(index=False)
    used = (row for i, row in enumerate(rows) if i not in plan.skipped)
    count = Counter(
        (r.imagetyp, r.filter if r.imagetyp in ("flat", "science") else "", r.exptime) for r in used
    )
    return [
        f"  {n:5d} {kind}{f' {name}' if name else ''} of {exptime:g} s"
        for (kind, name, exptime), n in sorted(count.items(), key=str)
    ]


def _job(plan: Plan, job: Job) -> list[str]:
    what = f"{len(job.frames)} frames" if job.kind != "science" else plan.relative(job.frames[0])
    masters = [name for names in job.masters.values() for name in names]
    with_ = f", with {', '.join(masters)}" if masters else ""
    lines = [f"  {job.name} from {what}{with_}{', dark scaled' if job.scale_dark else ''}"]
    return lines + [f"      {rule.splitlines()[0]}" for rule in job.rules]


def _out(plan: Plan) -> str:
    return f"{format_bytes(plan.bytes_out)} in {len(plan.jobs)} products"


def _memory() -> str:
    from daskcal.frames.memory import budget

    return f"within {format_bytes(budget())} of memory"

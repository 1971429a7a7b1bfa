"""A plan as text for people: as long as there is something new to say, not as the night."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dask.utils import format_bytes

from daskcal.night.plan.effort import effort
from daskcal.night.plan.jobs import used_masters
from daskcal.printable import few

if TYPE_CHECKING:
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan

REASONS = 12  # why frames are left out: each file's double has its own
_EXPOSURES = 3

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def plan_text(plan: Plan) -> str:
    """What will be made, from what, why; what is missing; what is skipped; how much it is."""
    lines = [f"{plan.folder}: {_count(len(plan.frames), 'frame')}", *_types(plan)]
    if plan.jobs:
        lines += ["", "will be made:"]
    taken = used_masters(plan.jobs)
    for jobs in _alike(plan, taken):
        lines += _made(plan, jobs, taken)
    missing = _grouped((m.reason, m.name) for m in plan.missing)
    lines += _section("cannot be made:", missing)
    lost = [f"  {bad}" for bad in plan.unreadable]
    skipped = _grouped((why, plan.label(i)) for i, why in sorted(plan.skipped.items()))
    lines += _section("cannot be read:", lost)
    if len(skipped) > REASONS:
        skipped = [
            *skipped[:REASONS],
            f"  and {len(skipped) - REASONS} more reasons, in the ledger",
        ]
    lines += _section("left out:", skipped)
    lines += _section("note:", [f"  {message}" for message in plan.messages])
    return "\n".join([*lines, "", _effort(plan)])


def room_text(plan: Plan, output: Path) -> str:
    """Whether the products fit into the output folder's file system."""
    here = next(p for p in (output.absolute(), *output.absolute().parents) if p.exists())
    free = shutil.disk_usage(here).free
    fits = "fit into" if effort(plan).bytes_out <= free else "do NOT fit into"
    return f"products {fits} {output}: {format_bytes(free)} are free"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _gather(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, with the names that it holds for."""
    return [f"  {few(names)}: {reason}" for reason, names in _gather(pairs).items()]


def _types(plan: Plan) -> list[str]:
    rows = plan.table[["imagetyp", "filter", "exptime"]].itertuples(index=False)
    used = [row for i, row in enumerate(rows) if i not in plan.skipped]
    groups = _gather(
        ((r.imagetyp, r.filter if r.imagetyp in ("flat", "science") else ""), float(r.exptime))
        for r in used
    )
    return [
        f"  {len(times):5d} {kind}{f' {name}' if name else ''} of {_exposures(times)}"
        for (kind, name), times in sorted(groups.items())
    ]


def _exposures(times: Sequence[float]) -> str:
    """Exposures with how often each was taken; of many, their span."""
    counts = sorted(Counter(f"{t:g}" for t in times).items(), key=lambda pair: float(pair[0]))
    if len(counts) == 1:
        return f"{counts[0][0]} s"
    if len(counts) <= _EXPOSURES:
        return ", ".join(f"{time} s ({n})" for time, n in counts)
    return f"{counts[0][0]} to {counts[-1][0]} s"


def _alike(plan: Plan, taken: set[str]) -> list[list[Job]]:
    """What is said at once: a master of all detectors, and science frames with the same of those.

    A detector of which a frame is lacking stands alone.
    """
    groups: dict[Hashable, list[Job]] = {}
    group_of: dict[str, Hashable] = {}
    shared: dict[int, Hashable] = {}  # jobs of science frames share their masters
    for job in plan.jobs:
        key = shared.get(id(job.masters))
        if key is None:
            key = "", *(group_of.get(name, name) for name in job.master_names)
            shared[id(job.masters)] = key
        if job.kind != "science":
            files = tuple(plan.frames[i].source.path for i in job.frames)
            mosaic = plan.frames[job.frames[0]].of > 1
            key = group_of[job.name] = (job.kind, job.name in taken, files if mosaic else job.name)
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def _made(plan: Plan, jobs: list[Job], taken: set[str]) -> list[str]:
    first = jobs[0]
    idle = "" if first.kind == "science" or first.name in taken else ", which nothing takes"
    if len(jobs) > 1 and first.kind != "science":
        names = few([job.name for job in jobs])
        what = f"{names} from {_count(len(first.frames), 'frame')} each{idle}"
    elif len(jobs) > 1:
        what = f"{_count(len(jobs), 'frame')}: {few([job.name for job in jobs])}"
    elif first.kind == "science":
        what = f"{first.name} from {plan.label(first.frames[0])}"
    else:
        what = f"{first.name} from {_count(len(first.frames), 'frame')}{idle}"
    lines = [f"  {what}"]
    told = dict.fromkeys(match for job in jobs for _, match in job.matched)
    every = {id(job.masters): job.master_names for job in jobs}.values()
    for position, name in enumerate(first.master_names):
        named = {names[position] for names in every}
        chosen = (match.reason for match in told if match.chosen and match.chosen.name in named)
        reasons = dict.fromkeys(chosen)
        more = f" (and {len(reasons) - 1} alike)" if len(reasons) > 1 else ""
        says = next((r for r in reasons if r.startswith(f"{name}:")), "")
        lines += [f"      {says}{more}"] if says else []
    return lines


def _effort(plan: Plan) -> str:
    need = effort(plan)
    made = _count(len(plan.jobs), "product")
    return (
        f"reads {format_bytes(need.bytes_in)}, writes about {format_bytes(need.bytes_out)} in "
        f"{made}; peak memory for pixels {format_bytes(need.memory)} at most; "
        f"{_count(need.tasks, 'task')}"
    )

"""The science frames of a run in groups, a few of which are in the making at any time.

A scheduler never holds more tasks than keep its workers busy, however long the night is; what is
done goes into the journal at once, and into the ledger in the order of the plan. A frame that
cannot be made with others is made alone, as if there were no groups.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.errors import DaskcalError
from daskcal.fits.urls import absolute
from daskcal.frame_files import WAITING, room, threads_compute
from daskcal.frames.assembled import DetectorFrame
from daskcal.frames.held import keep
from daskcal.frames.memory import active_client, all_threads, budget, threads
from daskcal.night.gates.judge import gates_of
from daskcal.night.ledger import Gate, ProductEntry
from daskcal.night.plan.jobs import BareJob, Job
from daskcal.night.report.page import CARDS_SHOWN, picture_size
from daskcal.night.reuse.origins import origin_of
from daskcal.night.run.science import BESIDE, Group, Made, made_on_worker, make_group, release

if TYPE_CHECKING:
    from daskcal.night.plan.plan import Plan
    from daskcal.night.run.run import Run

TOGETHER = 32  # frames of a group: what comes once for each is then little of a frame's time
AHEAD = 4 * TOGETHER  # frames that wait for others like them
IN_FLIGHT = 2  # groups for each thread of the workers: one is worked on, one waits
_LEVELS = ("SATURATE", "SATURATA", "SATLEVEL")  # that count where they are above 0
_OF_READOUT = ("unit", "origin_y", "origin_x", "origin_known", "detector", "instrument", "filter",
               "binning", "imagetyp")  # fmt: skip
_LEAVE = 10.0  # s in which workers may end with what they are at
_LOOK = 1.0  # s between looks at whether the scheduler is there


@dataclass(frozen=True, eq=False)
class _Done:
    """A product that is in the journal, and waits for its place in the ledger."""

    entry: ProductEntry
    gates: list[Gate]


def make_science(run: Run, jobs: Sequence[Job]) -> None:
    """Make the products of `jobs` that are to be made, and take over the others."""
    wanted = [job for job in jobs if job.name not in run.outlook.kept]
    done: dict[str, _Done | None] = {}
    waiting = deque(jobs)
    with contextlib.closing(_made(run, wanted)) as results:
        for job, made in results:
            done[job.name] = None if made is None else _note(run, job, made)
            _settle(run, waiting, done)
    _settle(run, waiting, done)


def _note(run: Run, job: Job, made: Made) -> _Done:
    """Put a product into the journal."""
    if made.look is not None:
        run.looks[job.name] = made.look
    gates, warnings = gates_of(made.numbers, job.name, run.record.place(job.frames[0]))
    entry = replace(
        run.entry(job, job.name, made.written, made.steps, made.seen),
        seconds=round(made.seconds, 3),
        key=run.reuse.keys[job.name],
        messages=tuple(dict.fromkeys([*made.messages, *warnings])),
    )
    run.journal.add([entry], gates)
    run.watch.end(job.name, entry.status)
    return _Done(entry, gates)


def _settle(run: Run, waiting: deque[Job], done: dict[str, _Done | None]) -> None:
    """Put on record what comes next in the order of the plan, as far as it is there."""
    while waiting:
        job = waiting[0]
        if job.name in run.outlook.kept:
            run.take_over(job, {})
        elif job.name not in done:
            return
        elif (found := done.pop(job.name)) is None:
            run.make(job, {})
        else:
            run.judge.sound.update(job.frames)
            run.record.gates += found.gates
            run.note(found.entry.messages)
            run.record.add(found.entry, job.frames)
        waiting.popleft()


# --- where it is done -----------------------------------------------------------------------------


def _made(run: Run, jobs: Sequence[Job]) -> Generator[tuple[Job, Made | None]]:
    """What comes of jobs, group by group; None where one is to be made alone."""
    client, token = active_client(), secrets.token_hex(8)
    if client is not None:
        size = math.ceil(len(jobs) / (IN_FLIGHT * max(1, all_threads())))
        groups = _groups(run, jobs, min(TOGETHER, max(1, size)))
        yield from _on_workers(run, client, groups, token)
    elif threads_compute():
        at_once = threads() + WAITING
        keep(room(at_once))
        try:
            for some in _groups(run, jobs, TOGETHER):
                group = _group(run, some, room(at_once), token)
                made = [None] * len(some) if group is None else make_group(group, at_once)
                yield from zip(some, made, strict=True)
        finally:
            release(token)
    else:
        yield from ((job, None) for job in jobs)


def _on_workers(
    run: Run, client: Any, groups: Iterator[list[Job]], token: str
) -> Iterator[tuple[Job, Made | None]]:
    """One task a group, a few groups at a time."""
    flying: dict[Any, list[Job]] = {}
    try:
        while True:
            while len(flying) < IN_FLIGHT * max(1, all_threads()):
                if (some := next(groups, None)) is None:
                    break
                group = _group(run, some, room(BESIDE, alone=False), token)
                if group is None:
                    yield from ((job, None) for job in some)
                else:
                    flying[client.submit(made_on_worker, group, pure=False)] = some
            if not flying:
                return
            for future in _finished(client, list(flying)):
                some = flying.pop(future)
                yield from zip(some, _result(client, future, len(some)), strict=True)
    finally:
        if client.status == "running":
            _leave(client, list(flying), token)


def _leave(client: Any, flying: list[Any], token: str) -> None:
    """Have workers end with the frame that each is at, wait for that, and let masters go."""
    from distributed import wait

    with contextlib.suppress(Exception):  # a scheduler that has just gone: they end with it
        client.run(release, token, on_error="ignore")
        if flying:
            with contextlib.suppress(TimeoutError):
                wait(flying, timeout=_LEAVE)
            client.cancel(flying)


def _finished(client: Any, futures: list[Any]) -> list[Any]:
    """Those that are done, at least one."""
    from distributed import wait

    while not (done := [future for future in futures if future.done()]):
        _require_running(client)
        with contextlib.suppress(TimeoutError):
            wait(futures, timeout=_LOOK, return_when="FIRST_COMPLETED")
    return done


def _result(client: Any, future: Any, n: int) -> Sequence[Made | None]:
    """What a task has made; where it failed (its workers died, ...) each is to be made alone."""
    try:
        made: list[Made | None] = future.result()
    except Exception:
        _require_running(client)
        return [None] * n
    return made


def _require_running(client: Any) -> None:
    if client.status != "running":
        raise CancelledError("the scheduler is gone")  # `daskcal.workers` says of what


# --- groups ---------------------------------------------------------------------------------------


def _groups(run: Run, jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Jobs that can be done together, up to `size` of them; one that cannot be done, by itself."""
    begun: dict[Hashable, list[Job]] = {}
    for job in jobs:
        if run.trouble(job, run.record.left(job.frames)) is not None:
            yield [job]
            continue
        alike = begun.setdefault(key := _alike(run, job), [])
        alike.append(job)
        if len(alike) == size:
            yield begun.pop(key)
        elif sum(map(len, begun.values())) > AHEAD:
            yield begun.pop(next(iter(begun)))
    yield from begun.values()


def _alike(run: Run, job: Job) -> Hashable:
    """What frames must have in common to be calibrated as one Dataset as each would be alone.

    Their masters and readout; which keywords they have, with words or with numbers; what sections
    they name; which of the numbers that noise and saturation are made of are known.
    """
    (i,) = job.frames
    frame, row = run.plan.frames[i], run.plan.table.iloc[i]
    pixels, header = frame.pixels, frame.header
    return (
        tuple(job.masters.items()), job.scale_dark, job.waives_exposure,
        type(frame), pixels.shape, pixels.dtype.str, pixels.can_be_undefined,
        frame.source.bitpix > 0, abs(frame.source.bscale),
        tuple(str(row[name]) for name in _OF_READOUT),
        tuple(bool(np.isfinite(row[name])) for name in ("gain", "rdnoise")),
        tuple(sorted((key, _sort_of(value)) for key, value in header.items())),
        tuple(value for key, value in sorted(header.items()) if _is_section(key, value)),
        tuple(_is_level(header.get(key)) for key in _LEVELS),
    )  # fmt: skip


def _sort_of(value: object) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _is_section(key: str, value: object) -> bool:
    return key.endswith("SEC") and isinstance(value, str)


def _is_level(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _group(run: Run, jobs: Sequence[Job], masters: int, token: str) -> Group | None:
    """What travels of jobs; None where that cannot be said. `masters` is room for these."""
    first, frames = jobs[0], [job.frames[0] for job in jobs]
    if run.trouble(first, run.record.left(first.frames)) is not None:
        return None
    plan = replace(
        run.plan, frames=tuple(run.plan.frames[i] for i in frames),
        table=run.plan.table.iloc[frames].reset_index(drop=True), unreadable=(), choices=(),
        skipped={}, jobs=(), missing=(), messages=(), library=None,
    )  # fmt: skip
    places = tuple(range(len(frames)))
    job = BareJob(
        first.name, first.kind, places, first.masters, first.scale_dark,
        waived=first.waives_exposure,
    )  # fmt: skip
    try:
        group = Group(
            token, plan, job, run.opened.files(first.master_names), run.norm_of(first),
            _is_apart(plan), absolute(str(run.place)),
            tuple(origin_of(run, job) for job in jobs), masters, budget(), _picture(run),
        )  # fmt: skip
    except DaskcalError:
        return None
    for each in jobs:
        run.watch.begin(each.name)
    return group


def _picture(run: Run) -> int:
    """How large pictures of products are in the report; 0 where it has enough of them."""
    return picture_size(len(run.plan.jobs)) if len(run.looks) < CARDS_SHOWN else 0


def _is_apart(plan: Plan) -> bool:
    """Whether frames are calibrated one by one: steps see them whole, or amplifiers differ."""
    whole = plan.config.cosmic_rays.method is not None
    return whole or any(isinstance(frame, DetectorFrame) for frame in plan.frames)

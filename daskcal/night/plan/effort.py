"""How much a plan reads, writes, computes and holds: from headers alone."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskcal.calibration.cosmic import working_bytes
from daskcal.calibration.crosstalk import faces
from daskcal.combination.scale import WORKING
from daskcal.frame_files import WAITING
from daskcal.frames.assembled import DetectorFrame
from daskcal.frames.band import pixel_bytes
from daskcal.frames.blocks import Stack
from daskcal.frames.memory import band_rows, budget, task_bytes, threads
from daskcal.frames.recipe import Files, Recipe, Source, Step, with_plane
from daskcal.frames.room import frame_bytes
from daskcal.frames.sections import Section
from daskcal.frames.wrapped import Wrapped
from daskcal.products import band_of_frame

if TYPE_CHECKING:
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan

_PLANE_BYTES = {"image": 4, "uncert": 4, "mask": 2}
_COUNT_BYTES = 2  # NUSED of a master


@dataclass(frozen=True, slots=True)
class Effort:
    """What a plan will take.

    Attributes
    ----------
    bytes_in : int
        Of raw pixels, unpacked; frames that are scaled before they are combined count twice, and
        so do rows that are read with those that they face, or lie near.
    bytes_out : int
        Of products, about: trimming makes them smaller, and uncertainties may not be known.
    memory : int
        Most bytes of pixels that are held at once: what the products need, or the budget, which
        sets the height of bands, where that is less; but what a whole frame takes, where its scale
        is found or cosmic rays are, or a band of one row does, where that is more than the budget.
    tasks : int
        Bands of rows that are computed, and frames whose scale is.
    """

    bytes_in: int
    bytes_out: int
    memory: int
    tasks: int


def effort(plan: Plan) -> Effort:
    """What `plan` will take."""
    return Effort(
        bytes_in=sum(bytes_in(plan, job) for job in plan.jobs),
        bytes_out=sum(_written(plan, job) for job in plan.jobs),
        memory=_memory(plan),
        tasks=sum(_tasks(plan, job) for job in plan.jobs),
    )


def bytes_in(plan: Plan, job: Job) -> int:
    """Raw pixels that a job reads."""
    sources = [plan.frames[i].pixels for i in job.frames]
    raw = sum(s.shape[0] * s.shape[1] * abs(s.bitpix) // 8 for s in sources)
    config = plan.config_of(job)
    raw *= 2 if _faces(plan, job) else 1
    if config.saturation.bleed:
        rows = sources[0].shape[0]
        bands = -(-rows // _height(plan, job))
        raw += raw * min(2 * config.saturation.bleed * (bands - 1), rows * bands) // rows
    again = int(_scaled(plan, job)) + int(job.kind != "science" and _keeps(plan))
    return raw * (1 + again)


def _written(plan: Plan, job: Job) -> int:
    rows, columns = plan.frames[job.frames[0]].pixels.shape
    frame = rows * columns * sum(_PLANE_BYTES[p] for p in plan.config.output.products)
    if job.kind == "science":
        return frame
    kept = len(job.frames) * frame if _keeps(plan) else 0
    return kept + rows * columns * (sum(_PLANE_BYTES.values()) + _COUNT_BYTES)


def _tasks(plan: Plan, job: Job) -> int:
    rows, columns = plan.frames[job.frames[0]].pixels.shape
    alone = -(-rows // band_of_frame(columns))
    if job.kind == "science":
        return alone
    bands = -(-rows // _height(plan, job))
    kept = len(job.frames) * alone if _keeps(plan) else 0
    return bands + kept + (len(job.frames) if _scaled(plan, job) else 0)


def _height(plan: Plan, job: Job) -> int:
    """Rows of a band."""
    if job.kind == "science":
        return band_of_frame(plan.frames[job.frames[0]].pixels.shape[1])
    return band_rows(_stack(plan, job))


@dataclass(frozen=True, slots=True)
class _Held:
    """Bytes that a product holds: what it would, and what lower bands or fewer frames leave."""

    wanted: int
    least: int


def _memory(plan: Plan) -> int:
    """Bytes of the product that holds most, within the budget where bands can be made for it."""
    alike: dict[Hashable, list[Job]] = {}
    for job in plan.jobs:
        if job.kind == "science":
            alike.setdefault(_shape(plan, job), []).append(job)
    held = [_of_master(plan, job) for job in plan.jobs if job.kind != "science"]
    held += [_of_frames(plan, jobs[0], len(jobs)) for jobs in alike.values()]
    limit = budget()
    return max((max(one.least, min(limit, one.wanted)) for one in held), default=0)


def _shape(plan: Plan, job: Job) -> Hashable:
    """What decides how much a science frame holds."""
    pixels = plan.frames[job.frames[0]].pixels
    return pixels.shape, pixels.dtype, _times(plan, job), sum(map(len, job.masters.values()))


def _of_master(plan: Plan, job: Job) -> _Held:
    """Its bands, and frames that are worked on as a whole, of which more wait for room."""
    stack = _stack(plan, job)
    height, at_once = band_rows(stack), threads()
    whole = frame_bytes(stack, WORKING) if _scaled(plan, job) else 0
    bands = min(at_once, -(-stack.section.shape[0] // height)) * task_bytes(stack, height)
    wanted = max(bands, whole * min(at_once, stack.n_frames))
    return _Held(wanted + _masters(stack, job), max(whole, bands if height == 1 else 0))


def _of_frames(plan: Plan, job: Job, n: int) -> _Held:
    """Some of `n` frames that are alike, each band by band, or whole to look for cosmic rays."""
    stack = _stack(plan, job)
    rows, columns = stack.section.shape
    each, whole = task_bytes(stack, min(rows, band_of_frame(columns))), 0
    if (method := plan.config.cosmic_rays.method) is not None:
        whole = frame_bytes(stack, working_bytes(method))
    at_once = min(n, threads() + WAITING)
    return _Held(at_once * max(each, whole) + _masters(stack, job), whole)


def _masters(stack: Stack, job: Job) -> int:
    """Bytes of the masters that calibrate a product."""
    rows, columns = stack.section.shape
    return len(job.master_names) * rows * columns * pixel_bytes(stack.recipe)


def _scaled(plan: Plan, job: Job) -> bool:
    return job.kind != "science" and getattr(plan.config.combine, job.kind).first_pass()


def _keeps(plan: Plan) -> bool:
    return plan.config.output.keep_calibrated


class _Calibrated(Step):
    """Stands for the steps of calibration: the planes that frames may have after it."""

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "variance", "variance_shared", "mask")


@dataclass(frozen=True, eq=False)
class _Reading(Wrapped):
    """Stands for a source that reads rows about a band, or facing it: so many copies are held."""

    times: int

    @property
    def copies(self) -> int:
        return self.times * self.source.copies

    def own(self) -> tuple[object, ...]:
        return (self.times,)


def _stack(plan: Plan, job: Job) -> Stack:
    """The frames of a master as they will be cut: nothing but their sizes and types counts."""
    sources = tuple(plan.frames[i].pixels for i in job.frames)
    rows, columns = sources[0].shape
    section = Section(0, rows, 0, columns)
    source: Source = Files(sources, section, token="plan")
    if (times := _times(plan, job)) > 1:
        source = _Reading(source, (), times)
    return Stack(Recipe.of(source).then(_Calibrated()), section, ())


def _times(plan: Plan, job: Job) -> int:
    """How often the rows of a band are held while they are read."""
    return (2 if plan.config_of(job).saturation.bleed else 1) * (2 if _faces(plan, job) else 1)


def _faces(plan: Plan, job: Job) -> bool:
    """Whether crosstalk is corrected between amplifiers that read from opposite ends."""
    frame, matrix = plan.frames[job.frames[0]], plan.config_of(job).crosstalk.matrix
    return bool(matrix) and isinstance(frame, DetectorFrame) and faces(frame.amplifiers, matrix)

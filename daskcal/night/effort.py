"""How much a plan reads, writes, computes and holds: from headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskcal.calibration.cosmic import working_bytes
from daskcal.combination.scale import WORKING
from daskcal.frames.blocks import Stack
from daskcal.frames.memory import band_rows, budget
from daskcal.frames.recipe import Files, Recipe, Step, with_plane
from daskcal.frames.room import frame_bytes
from daskcal.frames.sections import Section
from daskcal.products import band_of_frame

if TYPE_CHECKING:
    from daskcal.night.jobs import Job
    from daskcal.night.plan import Plan

_PLANE_BYTES = {"image": 4, "uncert": 4, "mask": 2}
_COUNT_BYTES = 2  # NUSED of a master


@dataclass(frozen=True, slots=True)
class Effort:
    """What a plan will take.

    Attributes
    ----------
    bytes_in : int
        Of raw pixels, unpacked; frames that are scaled before they are combined count twice.
    bytes_out : int
        Of products, about: trimming makes them smaller, and uncertainties may not be known.
    memory : int
        Most bytes of pixels that are held at once: the budget, which sets the height of bands, or
        what a whole frame takes, where its scale is found or cosmic rays are.
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
        bytes_in=sum(_read(plan, job) for job in plan.jobs),
        bytes_out=sum(_written(plan, job) for job in plan.jobs),
        memory=max([budget(), *(_whole_frames(plan, job) for job in plan.jobs)]),
        tasks=sum(_tasks(plan, job) for job in plan.jobs),
    )


def _read(plan: Plan, job: Job) -> int:
    sources = [plan.frames[i].pixels for i in job.frames]
    raw = sum(s.shape[0] * s.shape[1] * abs(s.bitpix) // 8 for s in sources)
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
    bands = -(-rows // band_rows(_stack(plan, job)))
    kept = len(job.frames) * alone if _keeps(plan) else 0
    return bands + kept + (len(job.frames) if _scaled(plan, job) else 0)


def _whole_frames(plan: Plan, job: Job) -> int:
    """Bytes of the frame that is worked on as a whole: more of them wait for room."""
    if job.kind == "science":
        return _with_rays(plan, job)
    return frame_bytes(_stack(plan, job), WORKING) if _scaled(plan, job) else 0


def _with_rays(plan: Plan, job: Job) -> int:
    """Bytes of the frame whose cosmic rays are looked for."""
    if plan.config.cosmic_rays.method is None:
        return 0
    return frame_bytes(_stack(plan, job), working_bytes(plan.config.cosmic_rays.method))


def _scaled(plan: Plan, job: Job) -> bool:
    return job.kind != "science" and getattr(plan.config.combine, job.kind).first_pass()


def _keeps(plan: Plan) -> bool:
    return plan.config.output.keep_calibrated


class _Calibrated(Step):
    """Stands for the steps of calibration: the planes that frames may have after it."""

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "variance", "variance_shared", "mask")


def _stack(plan: Plan, job: Job) -> Stack:
    """The frames of a master as they will be cut: nothing but their sizes and types counts."""
    sources = tuple(plan.frames[i].source for i in job.frames)
    rows, columns = sources[0].shape
    section = Section(0, rows, 0, columns)
    recipe = Recipe.of(Files(sources, section, token="plan")).then(_Calibrated())
    return Stack(recipe, section, ())

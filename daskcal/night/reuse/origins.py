"""What a run writes into its products about what they were made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daskcal.fits.checksum import file_checksum
from daskcal.fits.content import spool_whole
from daskcal.fits.urls import is_url
from daskcal.masters.recorded import facts_of
from daskcal.provenance import Origin, UsedFrame, UsedMaster, software

if TYPE_CHECKING:
    from daskcal.night.config.read import NightConfig
    from daskcal.night.plan.jobs import Job
    from daskcal.night.run.run import Run

# Tables of the config, and keys of them, that the bytes of a product of a kind depend on. Those
# that choose frames and masters are not among them: what they chose is named.
_EVERY = ("instrument", "keywords", "saturation", "crosstalk", "overscan", "linearity", "trim",
          "gain_ratios", "variance", "output.gain_correct")  # fmt: skip
_LIT = (*_EVERY, "shutter", "mask", "dark.tolerance", "dark.max_scale", "flat.normalise_over")
_PIXELS = ("output.products", "output.compress", "output.format")
DECIDES = {
    "bias": (*_EVERY, "combine.bias"),
    "dark": (*_EVERY, "combine.dark", "mask.from_darks"),
    "flat": (*_LIT, "combine.flat"),
    "science": (*_LIT, "dark.hot_threshold", "flat.normalise", "flat.min_value", "illumination",
                "fringe", "cosmic_rays", *_PIXELS),
}  # fmt: skip


def origin_of(
    run: Run, job: Job, *, name: str = "", kind: str = "", frames: Sequence[int] = ()
) -> Origin:
    """What a product of a run is made of.

    Parameters
    ----------
    name, kind, frames : optional
        Where they are not the job's: the store that has its frames, or a calibrated frame that is
        kept beside its master.
    """
    plan, kind = run.plan, kind or job.kind
    chosen = tuple(frames or job.frames)
    more = _PIXELS if kind == "calibrated" else ()
    config, files = config_of_product(plan.config_of(job), job.kind, more)
    return Origin(
        name=name or job.name,
        kind=kind,
        treated_as=job.kind,
        key=run.keys.get(name or job.name, ""),
        frames=tuple(
            UsedFrame(plan.relative(i), plan.frames[i].source.hdu, plan.frames[i].fingerprint)
            for i in chosen
        ),
        masters=tuple(
            UsedMaster(of, one, run.opened[one].attrs["checksum"], run.keys.get(one, ""))
            for of, names in job.masters.items()
            for one in names
        ),
        config=config,
        files=files,
        scale_dark=job.scale_dark,
        waives_exposure=job.waives_exposure,
        norm=run.norm_of(job),
        detector=str(plan.table["detector"].iloc[job.frames[0]]),
        facts=facts_of(plan.table.iloc[list(chosen)]),
        software=software(config),
    )


def config_of_product(
    config: NightConfig, kind: str, more: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """What of a config a product of a kind depends on, and the SHA-256 of the files it names.

    Files are named without their folder: products do not know where they were made. `more` are
    further keys.
    """
    whole = config.effective().model_dump(mode="json", exclude_defaults=True)
    chosen: dict[str, Any] = {}
    for name in (*DECIDES[kind], *more):
        table, _, key = name.partition(".")
        if not key and table in whole:
            chosen[table] = whole[table]
        elif key in whole.get(table, {}):
            chosen.setdefault(table, {})[key] = whole[table][key]
    chosen.get("instrument", {}).pop("name", None)
    chosen.get("combine", {}).get(kind, {}).pop("min_frames", None)
    files: dict[str, str] = {}
    for at, key, dotted in named_files(chosen):
        files[dotted] = _checksum(at[key])
        at[key] = os.path.basename(at[key])
    return chosen, files


def _checksum(path: str) -> str:
    """SHA-256 of a file, of one behind a URL from the copy that is read, too."""
    found = spool_whole(path) if is_url(path) else None
    return file_checksum(path if found is None else found[0])


def named_files(config: dict[str, Any]) -> list[tuple[dict[str, Any], str, str]]:
    """Where a config, as a mapping, names files: the table, the key in it, and the dotted key."""
    from daskcal.night.config.signature import files_of_signature

    found = list(files_of_signature(config))
    if config.get("mask", {}).get("bad_pixels"):
        found.append((config["mask"], "bad_pixels", "mask.bad_pixels"))
    return found

"""The gates of masters: what they, and the raw frames behind them, say of the detector."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dask
import numpy as np
import xarray as xr

from daskcal.calibration import measure_noise
from daskcal.calibration.robust import median_of_defined
from daskcal.errors import CalibrationError
from daskcal.frames.amplifiers import amplifiers, own_values
from daskcal.frames.master import open_master
from daskcal.night.gates.number import Number
from daskcal.night.gates.sample import read_sample, spread_rows

if TYPE_CHECKING:
    from daskcal.night.calibrate.masks import PixelMasks
    from daskcal.night.config.gates import Gates
    from daskcal.night.plan.jobs import Job

PAIRS = 3  # of bias frames that are compared: more would only repeat what they say
BAND_ROWS = 32  # of those frames, in each of a few bands


def master_numbers(
    limits: Gates, job: Job, raw: xr.Dataset, path: str, pixels: PixelMasks
) -> list[Number]:
    """What a master is judged by.

    Parameters
    ----------
    limits : Gates
    job : Job
    raw : xarray.Dataset
        Its raw frames; of biases a few are read.
    path : str
        The master as it was written; a dark is opened again.
    pixels : PixelMasks
        Keeps the hot pixels that a master dark shows.
    """
    found: list[Number] = []
    if job.kind == "bias":
        found = [*_bias_level(limits, raw), *_read_noise(limits, raw)]
    if job.kind == "dark":
        master = open_master(path).assign_attrs(file=job.name)
        found = [*_dark_current(limits, master), *_hot_pixels(limits, job, master, pixels)]
    return [n for n in found if n.action != "off" and not math.isnan(n.value)]


def _bias_level(limits: Gates, raw: xr.Dataset) -> Iterator[Number]:
    known, limit = raw.attrs.get("bias_level"), limits.bias_level
    if known is None or limit.action == "off":
        return
    level = float(np.median(read_sample(raw).levels()))
    yield Number(
        "bias_level", level, limit.action, unit="adu",
        low=known - limit.offset, high=known + limit.offset,
        text=f"the bias level is {level:.1f} adu, and the config says {known:g} adu "
        f"([instrument] bias_level)",
    )  # fmt: skip


def _read_noise(limits: Gates, raw: xr.Dataset) -> Iterator[Number]:
    """The read noise of each amplifier, where pairs can be made."""
    limit = limits.read_noise
    some = raw.isel(frame=slice(2 * PAIRS))
    unit = str(some["image"].attrs.get("units", ""))
    if limit.action == "off" or some.sizes["frame"] < 2 or unit not in ("adu", "electron"):
        return
    in_adu = some.assign(image=some["image"].assign_attrs(units="adu"))  # electron: of gain 1
    measured = _measured_noise(in_adu)
    gains = np.ones(len(measured)) if unit == "electron" else own_values(some, "gain")[0]
    noises = own_values(some, "rdnoise")[0]
    names = [amp.name for amp in amplifiers(raw)] or [""]
    for amp, seen, gain, said in zip(names, measured, gains, noises, strict=True):
        expected = said / gain
        over = "" if unit == "electron" else f" / {gain:g} electron/adu"
        yield Number(
            f"read_noise[{amp}]" if amp else "read_noise", float(seen), limit.action, unit=unit,
            low=expected * (1 - limit.fraction), high=expected * (1 + limit.fraction),
            text=f"{f'amplifier {amp}: ' if amp else ''}the read noise measured from pairs is "
            f"{seen:.2f} {unit}; the header (or config) says {said:g} electron{over} = "
            f"{expected:.2f} {unit}, which disagrees: uncertainties follow the header; "
            "[instrument] gain and rdnoise in the config mend it",
        )  # fmt: skip


def _measured_noise(frames: xr.Dataset) -> np.ndarray:
    """The read noise of each amplifier in adu: the median of what bands of rows say of it."""
    bands = spread_rows(frames.sizes["y"], BAND_ROWS)
    of_bands = [measure_noise(frames.isel(y=rows))["rdnoise_adu"].data for rows in bands]
    seen = np.stack([np.atleast_1d(noise) for noise in dask.compute(*of_bands)], axis=-1)
    return median_of_defined(seen)


def _dark_current(limits: Gates, master: xr.Dataset) -> Iterator[Number]:
    limit = limits.dark_current
    seconds = float(master.attrs.get("darktime", math.nan))
    unit = str(master["image"].attrs.get("units", ""))
    gain = 1.0 if unit == "electron" else float(master.attrs.get("gain", math.nan))
    if limit.action == "off" or not seconds > 0 or math.isnan(gain):
        return
    good = np.isfinite(master["image"].values) & (master["mask"].values == 0)
    level = float(np.median(master["image"].values[good])) if good.any() else math.nan
    rate = level * gain / seconds
    yield Number(
        "dark_current", rate, limit.action, high=math.nan if limit.high is None else limit.high,
        unit="electron/s",
        text=f"the dark current is {rate:.4g} electron/s; {limit.high} is most",
    )  # fmt: skip


def _hot_pixels(
    limits: Gates, job: Job, master: xr.Dataset, pixels: PixelMasks
) -> Iterator[Number]:
    limit = limits.hot_pixels
    try:
        hot = None if limit.action == "off" else pixels.hot_in(job, master, job.name)
    except CalibrationError:  # a threshold in electron/s, and gain or exposure is not known
        return
    if hot is None:
        return
    share = float(hot["image"].values.mean())
    yield Number(
        "hot_pixels", share, limit.action, high=limit.high,
        text=f"{share:.2%} of its pixels are hot; {limit.high:.2%} is most",
    )  # fmt: skip

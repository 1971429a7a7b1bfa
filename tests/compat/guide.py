"""The CCD Data Reduction Guide's calls, chapter by chapter, by any module with ccdproc's names.

`ccdp` is ccdproc or what stands in for it. Each chapter reads and writes the folder of reduced
images as the guide does, with its misspelt keyword put right and the bias subtracted where its loop
forgets to; what it looks at on the way is what it gives back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.stats import mad_std

Seen = dict[str, Any]


@dataclass(frozen=True)
class Camera:
    """What the guide knows of a camera."""

    width: int
    flat: str
    science: str
    exposure: str
    has_overscan: bool
    has_unit: bool

    @property
    def reader(self) -> dict[str, str]:
        """Of the reader: the unit, where the files do not say it."""
        return {} if self.has_unit else {"unit": "adu"}


def lfc(width: int) -> Camera:
    """Example 1."""
    return Camera(width, "FLATFIELD", "OBJECT", "exptime", has_overscan=True, has_unit=False)


def aspen(width: int) -> Camera:
    """Example 2."""
    return Camera(width, "FLAT", "LIGHT", "exposure", has_overscan=False, has_unit=True)


def nearest_dark(image: CCDData, times: Any, tolerance: float | None = 0.5) -> float:
    """The exposure of the dark that is nearest to an image's."""
    exposures = np.array(list(times))
    nearest = exposures[np.argmin(np.abs(exposures - image.header["exptime"]))]
    if tolerance is not None and abs(image.header["exptime"] - nearest) > tolerance:
        raise RuntimeError(f"no dark for {image.header['exptime']} s; the nearest is {nearest} s")
    return nearest


def inv_median(image: np.ndarray) -> float:
    """What brings an image to a median of 1."""
    return 1 / np.median(image)


CLIPPING = {
    "method": "average",
    "sigma_clip": True,
    "sigma_clip_low_thresh": 5,
    "sigma_clip_high_thresh": 5,
    "sigma_clip_func": np.ma.median,
    "sigma_clip_dev_func": mad_std,
    "mem_limit": 350e6,
}


def cut(ccdp: ModuleType, ccd: CCDData, camera: Camera) -> CCDData:
    """Overscan, where it is of use, and trim."""
    if camera.has_overscan:
        ccd = ccdp.subtract_overscan(ccd, overscan=ccd[:, camera.width + 7 :], median=True)
    return ccdp.trim_image(ccd[:, : camera.width])


# --- the chapters -------------------------------------------------------------------------------


def calibrate_biases(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 2, 1."""
    files = ccdp.ImageFileCollection(raw)
    for ccd, name in files.ccds(imagetyp="BIAS", return_fname=True, ccd_kwargs=camera.reader):
        cut(ccdp, ccd, camera).write(reduced / name)
    return {}


def combine_biases(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 2, 4."""
    images = ccdp.ImageFileCollection(reduced)
    biases = images.files_filtered(imagetyp="bias", include_path=True)
    combined = ccdp.combine(biases, **CLIPPING)
    combined.meta["combined"] = True
    combined.write(reduced / "combined_bias.fit")
    return {"first": CCDData.read(biases[0]).data, "n": len(biases), "combined": combined}


def calibrate_darks(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 3, 5."""
    files, images = ccdp.ImageFileCollection(raw), ccdp.ImageFileCollection(reduced)
    bias = next(iter(images.ccds(combined=True, imagetyp="bias")))
    for ccd, name in files.ccds(imagetyp="DARK", return_fname=True, ccd_kwargs=camera.reader):
        ccd = cut(ccdp, ccd, camera)
        if not camera.has_overscan:
            ccd = ccdp.subtract_bias(ccd, bias)
        ccd.write(reduced / name)
    return {"bias": bias}


def combine_darks(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 3, 6."""
    images = ccdp.ImageFileCollection(reduced)
    darks = images.summary["imagetyp"] == "DARK"
    times = set(images.summary["exptime"][darks])
    for time in sorted(times):
        files = images.files_filtered(imagetyp="dark", exptime=time, include_path=True)
        combined = ccdp.combine(files, **CLIPPING)
        combined.meta["combined"] = True
        combined.write(reduced / f"combined_dark_{time:6.3f}.fit")
    return {"times": sorted(times), "last": combined}


def calibrate_flats(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 5, 3: darks as they are in example 1, scaled in example 2."""
    images, files = ccdp.ImageFileCollection(reduced), ccdp.ImageFileCollection(raw)
    names = images.files_filtered(imagetyp="dark", combined=True)
    times = {h["exptime"] for h in images.headers(imagetyp="dark", combined=True)}
    chosen = files.files_filtered(imagetyp=camera.flat.lower(), include_path=True)
    one = CCDData.read(chosen[0], unit="adu")
    exposures = set(files.summary["exptime"][files.summary["imagetyp"] == camera.flat])
    darks = {ccd.header["exptime"]: ccd for ccd in images.ccds(imagetyp="dark", combined=True)}
    scaled = not camera.has_overscan
    bias = next(iter(images.ccds(combined=True, imagetyp="bias")))
    tolerance = 100 if scaled else 0.5
    seen = {"darks": names, "times": sorted(times), "exposures": sorted(exposures)}
    seen["one"] = cut(ccdp, one, camera)
    for ccd, name in files.ccds(imagetyp=camera.flat, ccd_kwargs=camera.reader, return_fname=True):
        ccd = cut(ccdp, ccd, camera)
        nearest = nearest_dark(ccd, times, tolerance)
        if scaled:
            ccd = ccdp.subtract_bias(ccd, bias)
        ccd = ccdp.subtract_dark(
            ccd, darks[nearest], exposure_time="exptime", exposure_unit=u.second, scale=scaled
        )
        ccd.write(reduced / f"flat-{name}")
    return seen


def combine_flats(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 5, 4."""
    images = ccdp.ImageFileCollection(reduced)
    imagetyp = camera.flat.lower()
    filters = {h["filter"] for h in images.headers(imagetyp=imagetyp)}
    medians = [np.median(data) for data in images.data(imagetyp=imagetyp)]
    means = [np.mean(hdu.data) for hdu in images.hdus(imagetyp=imagetyp)]
    for name in sorted(filters):
        files = images.files_filtered(imagetyp=imagetyp, filter=name, include_path=True)
        combined = ccdp.combine(files, scale=inv_median, **CLIPPING)
        combined.meta["combined"] = True
        combined.write(reduced / f"combined_flat_filter_{name.replace(chr(39), 'p')}.fit")
    images.refresh()
    found = images.files_filtered(imagetyp=imagetyp, combined=True)
    titles = [ccd.header["filter"] for ccd in images.ccds(imagetyp=imagetyp, combined=True)]
    return {"medians": medians, "means": means, "found": found, "titles": titles}


def reduce_science(ccdp: ModuleType, raw: Path, reduced: Path, camera: Camera) -> Seen:
    """Chapter 6."""
    images, files = ccdp.ImageFileCollection(reduced), ccdp.ImageFileCollection(raw)
    exposure = camera.exposure
    lights = files.summary[files.summary["imagetyp"] == camera.science]
    made = images.summary[images.summary["combined"].filled(False).astype("bool")]
    seen = {
        "lights": lights["date-obs", "file", "object", "filter", exposure],
        "made": made["date-obs", "file", "imagetyp", "filter", exposure],
    }
    darks = {ccd.header[exposure]: ccd for ccd in images.ccds(imagetyp="dark", combined=True)}
    flats = {
        ccd.header["filter"]: ccd
        for ccd in images.ccds(imagetyp=camera.flat.lower(), combined=True)
    }
    bias = next(iter(images.ccds(imagetyp="bias", combined=True)))
    for light, name in files.ccds(
        imagetyp=camera.science.lower(), return_fname=True, ccd_kwargs=camera.reader
    ):
        done = cut(ccdp, light, camera)
        if not camera.has_overscan:
            done = ccdp.subtract_bias(done, bias)
        dark = darks[nearest_dark(done, darks.keys())]
        done = ccdp.subtract_dark(done, dark, exposure_time="exptime", exposure_unit=u.second)
        done = ccdp.flat_correct(done, flats[done.header["filter"]])
        done.write(reduced / name)
    return seen


CHAPTERS = (
    calibrate_biases, combine_biases, calibrate_darks, combine_darks, calibrate_flats,
    combine_flats, reduce_science,
)  # fmt: skip

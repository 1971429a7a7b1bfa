"""The examples of docstrings do what they show: all that the reference documents."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std
from test_site import PAGES, listed

import daskcal
from daskcal import plot

RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FEW = {"n_bias": 4, "n_dark": 5, "n_flat": 4, "n_science": 1}


def with_examples() -> dict[str, Any]:
    """Objects of the reference, and methods of its classes, that have an example."""
    found = {}
    for page in PAGES:
        for name in listed(page):
            module, _, last = name.rpartition(".")
            thing = getattr(importlib.import_module(module), last)
            found[name] = thing
            if inspect.isclass(thing):
                found |= {f"{name}.{key}": one for key, one in vars(thing).items() if callable(one)}
    return {name: found[name] for name in sorted(found) if ">>>" in (found[name].__doc__ or "")}


EXAMPLES = with_examples()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A reduced night in the current folder, and what a reader has made of it by then."""
    with contextlib.chdir(tmp_path_factory.mktemp("examples")):
        night = daskcal.simulate_night("all", size=(128, 128), **FEW)
        Path(night.folder).rename("raw")
        daskcal.reduce_night("raw", "reduced")
        tiny = {"n_bias": 1, "n_dark": 1, "n_flat": 1, "n_science": 1}
        mosaic = daskcal.simulate_night("chips", "mosaic", size=(64, 96), **tiny)
        Path(mosaic.folder).rename("mosaic")
        yield made()


def made() -> dict[str, Any]:
    frames = daskcal.open_frames("raw")
    detector = {"overscan": {"fits_section": "BIASSEC"}, "trim": {"fits_section": "TRIMSEC"}}

    def calibrated(query: str, **masters: Any) -> Any:
        return daskcal.calibrate(frames.query(frame=query), **detector, **masters)

    biases = calibrated("imagetyp == 'bias'")
    bias = daskcal.combine(biases)
    darks = calibrated("imagetyp == 'dark' and exptime == 300", bias=bias)
    dark = daskcal.combine(darks)
    short_dark = daskcal.combine(calibrated("imagetyp == 'dark' and exptime == 60", bias=bias))
    flats = calibrated(
        "imagetyp == 'flat' and filter == 'V'", bias=bias, dark={"dark": dark, "scale": True}
    )
    flat = daskcal.combine(flats, scale="median")
    other_flat = daskcal.open_master("reduced/masters/flat_B.fits")
    visual = "imagetyp == 'science' and filter == 'V'"
    bright, faint = (daskcal.combine(flats.isel(frame=part)) for part in ([0, 1], [2, 3]))
    mask = daskcal.ccdmask(bright.image / faint.image)
    for path in ("bad_pixels.fits", "bad.reg"):
        daskcal.write_mask(mask, path)
    daskcal.to_fits(daskcal.illumination_frame(flat, box=32), "sky_V.fits")
    short_flat, long_flat = (daskcal.combine(flats.isel(frame=[i])) for i in (0, -1))
    daskcal.to_fits(daskcal.shutter_map(short_flat, long_flat), "shutter.fits")
    daskcal.to_fits(daskcal.combine(calibrated(visual, bias=bias)), "fringe_z.fits")
    two_amplifiers = halves()
    ccds = [CCDData.read(path, unit="adu") for path in sorted(Path("raw").glob("n000*.fits"))]
    ratio = bright.image / faint.image
    without_bias = calibrated(visual, bias=bias)
    trimmed = calibrated(visual)
    science = calibrated(f"{visual} and exptime == 300", bias=bias, dark=dark)
    own = {name: value for name, value in locals().items() if name not in ("calibrated", "visual")}
    return {**own, "daskcal": daskcal, "np": np, "plot": plot}


def halves() -> Any:
    """Raw frames of a detector read through two amplifiers, left and right."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update(IMAGETYP="flat", EXPTIME=60.0, BUNIT="adu")
    light = np.random.default_rng(1).normal(9000, 60, (64, 60))
    for name, place in (("left", "[1:60,1:64]"), ("right", "[61:120,1:64]")):
        image = np.hstack([light + 1000, np.full((64, 16), 1000.0)])
        hdus.append(fits.ImageHDU(image.astype("uint16"), name=name))
        hdus[-1].header.update(DATASEC="[1:60,1:64]", BIASSEC="[61:76,1:64]", DETSEC=place)
    fits.HDUList(hdus).writeto("halves.fits")
    return daskcal.open_frames("halves.fits")


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("figures")
def test_example(name: str, names: dict[str, Any]) -> None:
    thing = EXAMPLES[name]
    known = dict(names)
    if name.startswith("daskcal.compat"):
        known |= vars(importlib.import_module("daskcal.compat.ccdproc"))
        known |= {"files": sorted(Path("raw").glob("n000*.fits")), "mad_std": mad_std}
        known["biases"] = names["ccds"]
    runner = doctest.DocTestRunner(optionflags=RULES)
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), known, name, None, None)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert test.examples
    assert not runner.failures, "".join(said)


def test_every_function_has_an_example() -> None:
    functions = (name for name in daskcal.__all__ if inspect.isfunction(getattr(daskcal, name)))
    assert not [name for name in functions if f"daskcal.{name}" not in EXAMPLES]

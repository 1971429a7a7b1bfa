"""Raw frames with an overscan, behind files, numpy arrays and CCDData."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from raw_fits import write_frames
from small_frames import GAINS, NOISES, TIMES, raw_images

import daskcal


@pytest.fixture
def raw() -> np.ndarray:
    return raw_images()


@pytest.fixture(params=["files", "numpy", "ccddata"])
def frames(request, tmp_path, raw) -> xr.Dataset:
    """The same frames from everywhere: uint16, adu, with gains and read noises of their own."""
    paths = write_frames(
        tmp_path / "raw", list(raw), GAIN=GAINS, RDNOISE=NOISES, EXPTIME=TIMES,
        SATURATE=60000.0, BIASSEC="[ 27:32 , 1 : 20]", TRIMSEC="[26:1,20:1]",
    )  # fmt: skip
    opened = daskcal.open_frames(paths)
    if request.param == "numpy":
        return opened.compute()
    if request.param == "ccddata":
        ccds = daskcal.to_ccddata(opened)
        for ccd, path in zip(ccds, paths, strict=True):
            ccd.header = fits.getheader(path)
        again = daskcal.from_ccddata(ccds)
        again["image"].attrs["quantum"] = 1.0
        return again
    return opened

"""ccdproc's calls, on daskcal: a script changes ``import ccdproc`` and keeps its numbers.

The functions take and return `astropy.nddata.CCDData` as ccdproc 2.5's do. Stacks are combined by
daskcal's compiled loops, from files in bands of rows that fit the memory limit; steps on a single
image are arithmetic of `CCDData`, which is what ccdproc does. Docstrings say where the numbers
differ on purpose; ``docs/howto/coming_from_ccdproc.md`` has each call beside daskcal's own.
"""

from __future__ import annotations

from typing import Any

from astropy.nddata import CCDData, fits_ccddata_reader, fits_ccddata_writer

from daskcal.compat.ccdproc.collection import ImageFileCollection
from daskcal.compat.ccdproc.combiner import Combiner, combine
from daskcal.compat.ccdproc.metadata import Conf, Keyword, conf
from daskcal.compat.ccdproc.pixels import ccdmask, cosmicray_lacosmic, cosmicray_median
from daskcal.compat.ccdproc.process import ccd_process
from daskcal.compat.ccdproc.stacks import sigma_func
from daskcal.compat.ccdproc.steps import (
    create_deviation,
    flat_correct,
    gain_correct,
    subtract_bias,
    subtract_dark,
    subtract_overscan,
    trim_image,
)
from daskcal.errors import nearest

__all__ = [
    "CCDData",
    "Combiner",
    "Conf",
    "ImageFileCollection",
    "Keyword",
    "ccd_process",
    "ccdmask",
    "combine",
    "conf",
    "cosmicray_lacosmic",
    "cosmicray_median",
    "create_deviation",
    "fits_ccddata_reader",
    "fits_ccddata_writer",
    "flat_correct",
    "gain_correct",
    "sigma_func",
    "subtract_bias",
    "subtract_dark",
    "subtract_overscan",
    "trim_image",
]

ELSEWHERE = {  # names of ccdproc that are not here, and what does the same
    "background_deviation_box": "astropy.stats.mad_std of each box",
    "background_deviation_filter": "scipy.ndimage.generic_filter with astropy.stats.mad_std",
    "bitfield_to_boolean_mask": "astropy.nddata.bitmask.bitfield_to_boolean_mask",
    "block_average": "astropy.nddata.block_reduce(..., func=np.mean)",
    "block_reduce": "astropy.nddata.block_reduce",
    "block_replicate": "astropy.nddata.block_replicate",
    "median_filter": "scipy.ndimage.median_filter",
    "rebin": "astropy.nddata.block_reduce or block_replicate (ccdproc drops rebin in 3.0)",
    "transform_image": "the function itself on CCDData.data, .mask and .uncertainty.array",
    "wcs_project": "reproject.reproject_interp: daskcal does not register frames",
}


def __getattr__(name: str) -> Any:
    """Say what to use in place of what ccdproc has and daskcal has not."""
    if name in ELSEWHERE:
        raise AttributeError(
            f"daskcal.compat.ccdproc has no {name}; use {ELSEWHERE[name]}, or ccdproc's own"
        )
    raise AttributeError(f"daskcal.compat.ccdproc has no {name!r}; {nearest(name, __all__)}")

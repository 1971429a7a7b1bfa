"""astropop: its imcombine, with the statistics that daskcal uses."""

from __future__ import annotations

import warnings
from pathlib import Path

from astropop.image import imcombine


def combine(folder: str, out: str) -> None:
    """Mean with a 5σ median/MAD clip of one pass; to FITS with uncertainty and mask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations, one for each header
        made = imcombine(
            [str(path) for path in sorted(Path(folder).iterdir())],
            method="mean",
            sigma_clip=(5, 5),
            sigma_cen_func="median",
            sigma_dev_func="mad_std",
        )
        made.write(out, overwrite=True)

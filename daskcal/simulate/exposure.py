"""What falls on a detector during one exposure, in electrons, before it is read."""

from __future__ import annotations

import numpy as np

from daskcal.simulate.detector import Detector
from daskcal.simulate.headers import Shot
from daskcal.simulate.sky import Stars, render_stars


def expected_light(
    shot: Shot, detector: Detector, stars: Stars, sky: float, flat: float
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What a pixel of sensitivity 1 collects (science), and what all pixels hold on average.

    Parameters
    ----------
    shot : Shot
        The frame.
    detector : Detector
        Its maps.
    stars : Stars
        Electron/s.
    sky, flat : float
        Electrons per pixel of sensitivity 1 of a science frame, and of a flat.

    Returns
    -------
    image : ndarray of float32 (ny, nx), or None
        Sky and stars; None for other kinds.
    expected : ndarray of float32 (ny, nx), or None
        Light and dark current; None for a bias.
    """
    image, expected = None, None
    series = shot.series
    if series.kind == "science":
        shape = shot.geometry.ny, shot.geometry.nx
        image = render_stars(stars, shape, shot.exptime, shot.dither)
        image += np.float32(sky)
        expected = image * detector.sensitivity[series.filter]
    elif series.kind == "flat":
        expected = np.float32(flat) * detector.sensitivity[series.filter]
    if series.kind != "bias":
        dark = detector.dark * np.float32(shot.darktime)
        expected = dark if expected is None else expected + dark
    return image, expected

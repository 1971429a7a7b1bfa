"""Reading tile-compressed images: only the tiles that the rows touch are decoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from daskcal.errors import FrameError
from daskcal.fits.source import ImageSource, open_content


def read_tiles(source: ImageSource, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray:
    """The stored numbers (before BSCALE and BZERO) of a window of a tile-compressed image.

    Quantised floats come as floats, NaN where they are undefined.

    Raises
    ------
    FrameError
        ``damaged`` where the decoder fails, whatever it raises.
    """
    from astropy.io import fits

    if rows[0] == rows[1] or columns[0] == columns[1]:
        shape = rows[1] - rows[0], columns[1] - columns[0]
        return np.empty(shape, source.stored_dtype)
    with open(open_content(source), "rb") as file:
        try:
            with fits.open(file, memmap=False, do_not_scale_image_data=True) as hdus:
                hdu = hdus[source.hdu]
                squeezed = (0,) * (len(hdu.shape) - 2)
                values = hdu.section[(*squeezed, slice(*rows), slice(*columns))]
        except Exception as error:
            raise FrameError(
                source.path,
                "damaged",
                f"the {source.compression} tiles cannot be decoded: {error}",
                source.hdu,
            ) from error
    return np.ascontiguousarray(values)

"""Turn a finished FITS file into a tile-compressed one."""

from __future__ import annotations

import contextlib
import errno
import os

from astropy.io import fits

_LEVEL, _SEED = 16, 1  # 1/16 of the noise; a fixed seed, so that equal pixels give equal bytes


def compress_file(path: str) -> None:
    """Rewrite the file at `path` with each image tile-compressed (RICE_1); integers stay exact.

    Quantised floats: subtractive dithering, Pence, White and Seaman 2010, PASP 122, 1065.
    """
    packed, summed = f"{path}.fz", f"{path}.sum"
    try:
        with fits.open(path, memmap=False) as plain:
            images = [_compressed(hdu) for hdu in plain]
            fits.HDUList([fits.PrimaryHDU(), *images]).writeto(packed)
        # sums of the tables that hold the images, which only show when opened as tables
        with fits.open(packed, disable_image_compression=True, memmap=False) as tables:
            for table in tables:
                table.add_datasum(when="data unit checksum")  # by itself it would hold the time
                table.add_checksum(when="HDU checksum", override_datasum=True)
            tables.writeto(summed)
        with open(summed, "rb") as file:
            os.fsync(file.fileno())
        _require_sound(path, summed)
        os.replace(summed, path)
    finally:
        for name in (packed, summed):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _require_sound(path: str, summed: str) -> None:
    """Read what is on disk, and hold it against its checksums."""
    with fits.open(summed, disable_image_compression=True, memmap=False) as tables:
        if not all(table.verify_datasum() == table.verify_checksum() == 1 for table in tables):
            raise OSError(
                errno.EIO, "what was read back differs from what was written; check the disk", path
            )


def _compressed(hdu: fits.PrimaryHDU | fits.ImageHDU) -> fits.CompImageHDU:
    header = hdu.header.copy()
    for key in ("CHECKSUM", "DATASUM"):
        header.remove(key, ignore_missing=True)
    return fits.CompImageHDU(
        hdu.data,
        header,
        name=hdu.name if hdu.name != "PRIMARY" else "IMAGE",
        compression_type="RICE_1",
        quantize_level=_LEVEL,
        quantize_method=1,
        dither_seed=_SEED,
    )

"""Data are held against their DATASUM, however they lie in the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import FrameError
from daskcal.fits import datasum
from daskcal.fits.datasum import check_datasum
from daskcal.fits.frame import read_frame

RNG = np.random.default_rng(11)


def write(path: Path, dtype: str = "uint16", shape: tuple[int, int] = (31, 53)) -> Path:
    image = RNG.integers(0, 200, shape).astype(dtype)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)])
    hdus.writeto(path, checksum=True)
    return path


def damage(path: Path, offset: int = 100) -> None:
    """Turn one bit of the data."""
    with fits.open(path) as hdus:
        place = hdus[1].fileinfo()["datLoc"] + offset
    whole = bytearray(path.read_bytes())
    whole[place] ^= 4
    path.write_bytes(whole)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("piece", [1 << 22, 1000])
def test_sound_data_pass_and_damaged_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, piece: int
) -> None:
    monkeypatch.setattr(datasum, "_PIECE", piece)
    path = write(tmp_path / "f.fits", dtype)
    check_datasum(read_frame(str(path)))
    damage(path, 1642)  # one of the last bytes, where they are single ones
    with pytest.raises(FrameError, match=r"DATASUM is \d+: they are not those") as caught:
        check_datasum(read_frame(str(path)))
    assert (caught.value.reason, caught.value.hdu) == ("damaged", 1)


def test_packed_files(tmp_path: Path) -> None:
    path = write(tmp_path / "f.fits")
    damage(path)
    packed = tmp_path / "g.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FrameError, match="DATASUM"):
        check_datasum(read_frame(str(packed)))


@pytest.mark.parametrize("card", [None, "", "unknown"])
def test_without_a_sum_nothing_is_read(tmp_path: Path, card: str | None) -> None:
    path = tmp_path / "f.fits"
    hdu = fits.ImageHDU(np.ones((31, 53), np.int16))
    if card is not None:
        hdu.header["DATASUM"] = card
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    frame = read_frame(str(path))
    path.unlink()
    check_datasum(frame)


def test_compressed_images_are_left_to_their_codec(tmp_path: Path) -> None:
    path = tmp_path / "f.fits.fz"
    image = RNG.integers(0, 200, (31, 53)).astype(np.int16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(path, checksum=True)
    check_datasum(read_frame(str(path)))

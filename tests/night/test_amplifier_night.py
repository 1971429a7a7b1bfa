"""A night of a camera with four amplifiers, an HDU each, from raw files to products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from amplifier_files import quadrants, write_mef
from astropy.io import fits

import daskcal

NY, NX, OVER = 32, 48, 8
LEVEL = (900, 1000, 1100, 1200)
RNG = np.random.default_rng(4)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three biases, three flats, a science frame; and a bias that says nonsense of an amplifier."""
    folder = tmp_path / "raw"
    folder.mkdir()
    kinds = {"bias": 0.0, "flat": 20000.0, "object": 3000.0}
    frames = [("bias", i) for i in range(4)] + [("flat", i) for i in range(3)] + [("object", 0)]
    for kind, i in frames:
        detector = RNG.normal(0, 2, (NY, NX)) + RNG.poisson(kinds[kind], (NY, NX))
        darks = []
        for amp, level in zip(quadrants(NY, NX), LEVEL, strict=True):
            detector[slice(*amp.rows), slice(*amp.columns)] += level
            darks.append(RNG.normal(level, 2, (NY, OVER)).round().astype("u2"))
        cards = [{"GAIN": 1.0 + 0.1 * k, "RDNOISE": 2.0} for k in range(4)]
        if (kind, i) == ("bias", 3):
            cards[2]["DETSEC"] = "[1:24,"
        path, image = folder / f"{kind}_{i}.fits", detector.round().astype("u2")
        exposure = 0.0 if kind == "bias" else 10.0
        write_mef(path, image, quadrants(NY, NX), darks, cards=cards, IMAGETYP=kind,
                  EXPTIME=exposure)  # fmt: skip
    return folder


def test_a_night_of_amplifiers(raw: Path, tmp_path: Path) -> None:
    done = daskcal.reduce_night(raw, tmp_path / "out")
    assert {product.status for product in done.products} == {"made"}
    (lost,) = [frame for frame in done.frames if frame.status == "failed"]
    assert lost.path == "bias_3.fits"
    assert "SEG2: the detector section '[1:24,' should look like" in lost.reason
    bias = fits.getdata(tmp_path / "out" / "masters" / "bias.fits")
    assert bias.shape == (NY, NX)
    assert abs(bias).mean() < 3  # no level of any amplifier is left
    with fits.open(tmp_path / "out" / "science" / "object_0.fits") as science:
        image, header = science[0].data, science[0].header
        for amp in quadrants(NY, NX):
            part = image[slice(*amp.rows), slice(*amp.columns)]
            assert part.mean() == pytest.approx(3000, rel=0.01)
        assert not {"DATASEC", "BIASSEC", "DETSEC", "EXTNAME"} & set(header)
        assert "UNCERT" in science

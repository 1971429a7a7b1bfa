"""Bands: the same bits walked through or whole, and frames together or each alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from raw_fits import write_frames

import daskcal
from daskcal.frames import band as band_module
from daskcal.frames.block import PLANES
from daskcal.frames.blocks import Band, pack, recover
from daskcal.frames.steps import MasterId, StepRecord

N, NY, NX = 5, 24, 40
BIAS = MasterId("bias.fits", "abc")
RNG = np.random.default_rng(5)
RAW = RNG.normal(5000, 300, (N, NY, NX)).astype(np.uint16)
RAW[1, 4, 5] = RAW[3, 9, 9] = 65535


def master(level, spread, dead=0, **attrs):
    rng = np.random.default_rng(int(level))
    shape = NY, NX - 8
    planes = {
        "image": rng.normal(level, spread, shape).astype("f4"),
        "variance": rng.uniform(0.5, 2, shape).astype("f4"),
        "mask": np.zeros(shape, "u2"),
    }
    planes["image"][:dead, 3] = np.nan
    planes["mask"][7, 7] = 1
    found = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()})
    found["image"].attrs["units"] = "adu"
    subtracted = [
        '{"step": "subtract_overscan"}',
        StepRecord("subtract_bias", {}, (BIAS,)).to_json(),
    ]
    steps = {"steps": subtracted[: 1 + ("darktime" in attrs)]}
    return found.assign_attrs(steps | attrs)


@pytest.fixture
def frames(tmp_path):
    paths = write_frames(
        tmp_path / "raw", list(RAW), BUNIT="adu", GAIN=2.0, RDNOISE=5.0, SATURATE=65535.0,
        EXPTIME=[30.0, 60.0, 61.0, 30.0, 200.0],
    )  # fmt: skip
    return daskcal.open_frames(paths)


def overscan(frames):
    return daskcal.calibrate(frames, overscan="[:, 32:]", trim="[:, :32]")


def scaled_dark(frames):
    darks = [master(20, 2, dead=2, darktime=50.0), master(90, 5, darktime=220.0)]
    biased = daskcal.subtract_bias(overscan(frames), master(10, 1, checksum=BIAS.checksum))
    return daskcal.subtract_dark(biased, darks, scale=True)


def everything(frames):
    return daskcal.flat_correct(scaled_dark(daskcal.flag_saturated(frames)), master(900, 300))


RECIPES = {
    "raw": lambda f: f,
    "flags": daskcal.flag_saturated,
    "overscan": overscan,
    "scaled darks": scaled_dark,
    "everything": everything,
    "no mask": lambda f: everything(f).drop_vars("mask"),
    "image only": lambda f: everything(f)[["image"]],
    "new variance": lambda f: daskcal.create_variance(
        overscan(f).drop_vars("variance").drop_vars("mask"), gain=3.0
    ),
    "columns": lambda f: daskcal.subtract_overscan(f, "[20:, :]", axis="column"),
    "electron": lambda f: daskcal.gain_correct(overscan(f)),
}


def bands(frames, frame=-1, rows=-1) -> list[list[Band]]:
    stack = recover(frames)
    packed = pack(stack, frame, rows)
    found = packed.to_delayed()
    return [[row[0].compute(scheduler="sync") for row in some] for some in found]


@pytest.mark.parametrize("slab", [1, 3000, 1 << 22])
@pytest.mark.parametrize("name", RECIPES)
def test_what_is_walked_through_is_what_stands_in_the_planes(frames, name, slab, monkeypatch):
    expected = RECIPES[name](frames).compute()
    monkeypatch.setattr(band_module, "SLAB", slab)
    ((band,),) = bands(RECIPES[name](frames))
    planes = dict(zip(band.recipe.planes, band.planes(), strict=True))
    assert set(planes) == {p for p in PLANES if p in expected}
    for plane, values in planes.items():
        assert values.dtype == expected[plane].dtype
        np.testing.assert_array_equal(values, expected[plane].values, plane)
    row = band.section.y0
    for block in band.walk():
        assert block.section.y0 == row
        at = slice(row - band.section.y0, block.section.y1 - band.section.y0)
        row = block.section.y1
        for plane, values in planes.items():
            found = getattr(block, plane)
            if found is None:
                assert plane == "mask"
                found = np.zeros(block.image.shape, np.uint16)
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values[:, at], plane)
    assert row == band.section.y1


@pytest.mark.parametrize("name", RECIPES)
def test_frames_together_and_each_alone_have_the_same_bits(frames, name):
    together = daskcal.blocks(RECIPES[name](frames)).compute()
    for i in range(N):
        alone = RECIPES[name](frames.isel(frame=[i])).compute()
        for plane in alone.data_vars:
            assert alone[plane].values.tobytes() == together[plane].values[i : i + 1].tobytes()


def test_raw_pixels_are_handed_out_as_they_were_read(frames):
    ((band,),) = bands(frames)
    (block,) = band.walk()
    assert block.image is band.raw.image
    assert block.mask is None


def test_no_mask_where_no_bit_is_set(frames):
    ((band,),) = bands(daskcal.flag_saturated(frames.isel(frame=[0, 2, 4])))
    assert all(block.mask is None for block in band.walk())
    (_, mask) = band.planes()
    assert not mask.any()
    ((band,),) = bands(daskcal.flag_saturated(frames))
    assert any(block.mask is not None for block in band.walk())


def test_nothing_changes_what_was_read(frames):
    stack = recover(everything(frames))
    ((band,),) = bands(everything(frames))
    held = [band.raw.image, *band.arrays]
    before = [array.copy() for array in held]
    first = band.planes()
    for _ in band.walk():
        pass
    for array, same in zip(held, before, strict=True):
        np.testing.assert_array_equal(array, same)
    for plane, again in zip(first, band.planes(), strict=True):
        np.testing.assert_array_equal(plane, again)
    assert stack.recipe.planes == ("image", "variance", "variance_shared", "mask")

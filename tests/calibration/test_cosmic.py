"""Cosmic rays: bits and planes, growth, laziness, arguments. What is found: the oracle tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr
from raw_fits import counted_reads, no_computing, write_frames

import daskcal
from daskcal.calibration.cosmic import grown_by
from daskcal.frames.masks import Flag

N, NY, NX = 3, 60, 50
RAYS = [(20, 30), (40, 8), (10, 10)]
METHODS = {
    "lacosmic": (daskcal.cosmicray_lacosmic, {"sigclip": 6.0, "sigfrac": 0.9}),
    "median": (daskcal.cosmicray_median, {"thresh": 8.0}),
}


@pytest.fixture
def images():
    made = np.random.default_rng(5).normal(1000, 8, (N, NY, NX))
    for image, at in zip(made, RAYS, strict=True):
        image[at] += 2000
    return list(made.round().astype("u2"))


@pytest.fixture
def frames(tmp_path, images):
    opened = daskcal.open_frames(write_frames(tmp_path / "raw", images, RDNOISE=6.0))
    bad = np.zeros((NY, NX), bool)
    bad[50, :] = bad[40, 8] = True
    return daskcal.create_variance(daskcal.flag_bad(opened, bad), bias_level=500)


@pytest.mark.parametrize("method", METHODS)
def test_a_bit_and_nothing_else(frames, images, method, monkeypatch):
    find, options = METHODS[method]
    before = frames.compute()
    with no_computing(), counted_reads(monkeypatch) as reads:
        found = find(frames, **options)
    assert reads.bytes == 0
    xr.testing.assert_identical(frames.compute(), before)
    computed = found.compute()
    for plane in ("image", "variance"):
        np.testing.assert_array_equal(computed[plane], before[plane])
    expected = before.mask.values.copy()
    expected[0][RAYS[0]], expected[2][RAYS[2]] = 32, 32  # the second lies under a bad pixel
    np.testing.assert_array_equal(computed.mask, expected)
    assert computed.mask.attrs["flag_meanings"].split()[5] == "cosmic_ray"
    record = json.loads(found.attrs["steps"][-1])
    assert record["step"] == f"cosmicray_{method}"
    assert record | options == record


@pytest.mark.parametrize("method", METHODS)
def test_the_bits_do_not_depend_on_layout_and_scheduler(frames, method):
    find, options = METHODS[method]
    with dask.config.set(scheduler="sync"):
        expected = find(frames, **options).compute()
    for layout in ((1, 7), (-1, 13), (2, -1)):
        again = daskcal.blocks(find(daskcal.blocks(frames, *layout), **options), *layout)
        xr.testing.assert_identical(again.compute(), expected)
    chosen = find(frames.isel(frame=[2, 0]), **options)
    xr.testing.assert_identical(chosen.compute(), expected.isel(frame=[2, 0]))


def test_rays_are_no_outliers_any_more(frames):
    flat = daskcal.combine(daskcal.cosmicray_lacosmic(frames), reject="none")
    assert np.nanmax(flat.image.values) < 1050
    assert flat.n_used.values[RAYS[0]] == N - 1


@pytest.mark.parametrize(("grow", "pixels"), [(0, 1), (0.9, 1), (1, 5), (1.5, 9), (2, 13)])
def test_growth_is_a_disc_that_leaves_masked_pixels_alone(frames, grow, pixels):
    found = daskcal.cosmicray_lacosmic(frames, sigclip=6.0, sigfrac=0.9, grow=grow)
    rays = (found.mask.values & Flag.COSMIC_RAY) != 0
    assert rays.sum(axis=(1, 2)).tolist() == [pixels, 0, pixels]
    assert not rays[:, 50].any()
    edge = np.zeros((4, 4), bool)
    edge[0, 0] = True
    assert grown_by(edge, 1).sum() == 3


def test_cleaning_replaces_what_was_found_and_not_what_grew(frames, images):
    found = daskcal.cosmicray_lacosmic(frames, sigclip=6.0, sigfrac=0.9, grow=1, clean=True)
    image = found.image.values[0]
    assert image.dtype == np.float32
    assert image[RAYS[0]] == pytest.approx(1000, abs=20)
    image[RAYS[0]] = images[0][RAYS[0]]
    np.testing.assert_array_equal(image, images[0])


def test_raw_integers_become_floats(tmp_path, images):
    raw = daskcal.open_frames(write_frames(tmp_path / "r", images))
    for done in (
        daskcal.cosmicray_lacosmic(raw, clean=False),
        daskcal.cosmicray_median(raw, error_image=8.0, rbox=5),
    ):
        assert {done.image.dtype, done.image.values.dtype} == {np.dtype(np.float32)}


def test_a_frame_without_a_good_pixel(tmp_path, images):
    raw = daskcal.open_frames(write_frames(tmp_path / "r", images))
    masked = daskcal.flag_bad(raw, np.ones((NY, NX), bool))
    for find in (daskcal.cosmicray_lacosmic, daskcal.cosmicray_median):
        np.testing.assert_array_equal(find(masked).mask.values, 1)


def test_calibrate_does_it_last(frames):
    by_word = daskcal.calibrate(frames, variance=None, cosmic_rays="lacosmic")
    by_dict = daskcal.calibrate(
        frames, variance=None, cosmic_rays={"method": "median", "thresh": 8.0}
    )
    steps = [json.loads(f.attrs["steps"][-1])["step"] for f in (by_word, by_dict)]
    assert steps == ["cosmicray_lacosmic", "cosmicray_median"]
    with pytest.raises(daskcal.ArgumentError, match="method='laplace'"):
        daskcal.calibrate(frames, variance=None, cosmic_rays="laplace")


@pytest.mark.parametrize(
    "options",
    [
        {"sigclip": 0}, {"objlim": -1}, {"niter": "4"}, {"satlevel": True}, {"psfsize": 6},
        {"grow": -1}, {"grow": np.inf}, {"readnoise": 0}, {"gain": -2.0},
        {"cleantype": "mean"}, {"fsmode": "fourier"}, {"psfmodel": "airy"},
    ],
)  # fmt: skip
def test_arguments_of_lacosmic(frames, options):
    (name,) = options
    with no_computing(), pytest.raises(daskcal.ArgumentError, match=f"{name}="):
        daskcal.cosmicray_lacosmic(frames, **options)


@pytest.mark.parametrize(
    "options", [{"thresh": 0}, {"mbox": 0}, {"gbox": -1}, {"rbox": 2.5}, {"error_image": 0}]
)
def test_arguments_of_the_median(frames, options):
    (name,) = options
    with pytest.raises(daskcal.ArgumentError, match=f"{name}="):
        daskcal.cosmicray_median(frames, **options)


def test_units_and_noise_must_be_known(tmp_path, images):
    raw = daskcal.open_frames(write_frames(tmp_path / "r", images, RDNOISE=[5.0, None, 5.0]))
    with pytest.raises(daskcal.CalibrationError, match=r"f1\.fits has rdnoise = nan; give readno"):
        daskcal.cosmicray_lacosmic(raw)
    with pytest.raises(daskcal.ArgumentError, match="in electron already"):
        daskcal.cosmicray_lacosmic(daskcal.gain_correct(raw), gain=2.0, readnoise=5.0)
    with pytest.raises(daskcal.UnknownKeywordError, match="did you mean 'sigclip'"):
        daskcal.cosmicray_lacosmic(raw, sigclp=5)
    del raw.image.attrs["units"]
    with pytest.raises(daskcal.UnitError, match="cosmicray_lacosmic needs the unit"):
        daskcal.cosmicray_lacosmic(raw)


@pytest.mark.parametrize("shape", [(24, 1), (1, 24), (2, 2), (3, 24), (24, 3)])
def test_frames_that_the_filters_overrun_are_refused(tmp_path, shape):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [np.ones(shape, np.uint16)]))
    with pytest.raises(daskcal.GeometryError, match=f"{shape[0]} rows × {shape[1]} columns"):
        daskcal.cosmicray_lacosmic(frames, gain=1, readnoise=5)
    assert daskcal.cosmicray_median(frames, error_image=1).mask.values.shape == (1, *shape)


@pytest.mark.parametrize("options", [{}, {"sepmed": False}, {"fsmode": "convolve"}])
def test_the_smallest_frames_that_are_taken(tmp_path, options):
    """In a process of its own, whose C library looks for what was written past the end."""
    (path,) = write_frames(tmp_path / "raw", [np.full((4, 4), 100, np.uint16)])
    code = (
        f"import daskcal; frames = daskcal.open_frames({str(path)!r}, unit='adu'); "
        f"daskcal.cosmicray_lacosmic(frames, gain=1, readnoise=5, **{options!r}).mask.load()"
    )
    checked = os.environ | {"MALLOC_CHECK_": "3", "LD_PRELOAD": "libc_malloc_debug.so.0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=checked)
    assert done.returncode == 0, done.stderr


def test_a_unit_that_a_gain_is_not_for(tmp_path, images):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(images), BUNIT="Jy"))
    with pytest.raises(daskcal.UnitError, match="the frames are in Jy"):
        daskcal.cosmicray_lacosmic(frames, readnoise=5)
    daskcal.cosmicray_lacosmic(frames, gain=2, readnoise=5)

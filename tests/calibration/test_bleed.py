"""What saturated pixels bleed into, against plain numpy, in blocks of any height."""

from __future__ import annotations

import numpy as np
import pytest
from amplified import AMPS, NX, NY, WIDTH, with_amplifiers
from raw_fits import no_computing, write_frames

import daskcal

SATURATED, LEVEL = 4, 50_000


def scene():
    rng = np.random.default_rng(7)
    images = rng.normal(1000, 5, (3, NY, WIDTH)).round().astype(np.uint16)
    for image in images:
        for y, x in rng.integers(0, (NY, NX), (4, 2)):
            image[y, x] = rng.integers(40_000, 60_000)
    images[0, 0, 3] = images[1, NY - 1, 5] = 65_000
    return images


def expected(images, reach, level=LEVEL):
    full = images >= np.broadcast_to(level, images.shape[1:])
    near = full.copy()
    for step in range(1, reach + 1):
        near[:, step:] |= full[:, :-step]
        near[:, :-step] |= full[:, step:]
    return near


@pytest.fixture(params=["files", "numpy", "dask"])
def frames(request, tmp_path):
    opened = daskcal.open_frames(write_frames(tmp_path / "raw", list(scene()), SATURATE=LEVEL))
    if request.param == "numpy":
        return opened.compute()
    if request.param == "dask":
        return opened.assign(image=(opened.image + 0).chunk(y=7, x=11))
    return opened


@pytest.mark.parametrize("reach", [1, 5, 100])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_columns_of_saturated_pixels(frames, reach, rows):
    with no_computing():
        done = daskcal.flag_bleed(frames, reach)
    near = expected(scene(), min(reach, NY - 1))
    cut = daskcal.blocks(done, rows=rows)
    np.testing.assert_array_equal(cut.mask.values == SATURATED, near)
    np.testing.assert_array_equal(cut.image.values, scene())
    assert done.image.dtype == np.uint16


def test_of_a_selection_and_with_what_comes_after(frames):
    """A window is flagged from what lies outside of it, where that can be read."""
    done = daskcal.flag_bleed(daskcal.flag_saturated(frames), 5)
    some = daskcal.subtract_overscan(done, f"[:, {NX}:]").isel(frame=[2, 0], y=slice(4, 9))
    near = expected(scene(), 5)[[2, 0], 4:9]
    np.testing.assert_array_equal(some.mask.values == SATURATED, near)
    combined = daskcal.combine(done, reject="none")
    np.testing.assert_array_equal(combined.n_used.values, (~expected(scene(), 5)).sum(axis=0))


def test_each_amplifier_has_its_level(frames):
    levels = [45_000, 50_000, 55_000, 41_000]
    raw = with_amplifiers(frames, saturation=np.array([levels] * 3, float))
    done = daskcal.flag_bleed(raw, 3)
    level = np.full((NY, WIDTH), np.inf)
    for amp, own in zip(AMPS, levels, strict=True):
        level[amp.section.y0 : amp.section.y1, amp.section.x0 : amp.section.x1] = own
    np.testing.assert_array_equal(done.mask.values == SATURATED, expected(scene(), 3, level))


def test_crosstalk_after_it(frames):
    """Sources within sources: facing rows, and rows about a band."""
    raw = with_amplifiers(frames)
    matrix = {"A": {"C": 0.01}}
    done = daskcal.correct_crosstalk(daskcal.flag_bleed(raw, 5, level=LEVEL), matrix)
    alone = daskcal.correct_crosstalk(raw, matrix)
    for rows in (1, 7, -1):
        cut = daskcal.blocks(done, rows=rows)
        np.testing.assert_array_equal(cut.image.values, alone.image.values)
        np.testing.assert_array_equal(cut.mask.values == SATURATED, expected(scene(), 5))


def test_a_mask_that_was_given_stays_as_it_is(frames):
    given = np.ones(scene().shape, np.uint16)
    raw = frames.assign(mask=(frames.image.dims, given))
    done = daskcal.flag_bleed(raw, 2)
    np.testing.assert_array_equal(done.mask.values, 1 + SATURATED * expected(scene(), 2))
    assert (given == 1).all()


def test_errors(frames, tmp_path):
    with pytest.raises(daskcal.ArgumentError, match="reach=0"):
        daskcal.flag_bleed(frames, 0)
    with pytest.raises(daskcal.CalibrationError, match="changed them"):
        daskcal.flag_bleed(daskcal.subtract_overscan(frames, f"[:, {NX}:]"), 3)
    unknown = daskcal.open_frames(write_frames(tmp_path / "unknown", list(scene()[:1])))
    with pytest.raises(daskcal.CalibrationError, match="does not say where it saturates"):
        daskcal.flag_bleed(unknown, 3)
    done = daskcal.flag_bleed(unknown, 3, level=LEVEL)
    np.testing.assert_array_equal(done.mask.values == SATURATED, expected(scene()[:1], 3))

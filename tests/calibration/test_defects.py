"""Masks of a detector: their reasons, whole columns, several as one."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from raw_fits import no_computing, write_frames
from small_frames import NX, NY, make_master
from step_reference import BAD, HOT

import daskcal
from daskcal.frames.steps import steps_of

SHAPE = (60, 80)


def flat(seed=1):
    rng = np.random.default_rng(seed)
    return make_master(rng.normal(1, 0.01, SHAPE).astype("f4"), SHAPE, units="")


def where(mask):
    return np.argwhere(mask.image.values).tolist()


def test_bad_pixels_of_a_flat():
    image = flat()
    image.image.values[7, 8], image.image.values[0, 0], image.image.values[40, 70] = 0.2, 3, -1
    with no_computing():
        mask = daskcal.ccdmask(image)
    assert mask.image.dtype == np.uint16
    assert where(mask) == [[0, 0], [7, 8], [40, 70]]
    assert (
        dict(zip(mask.image.flag_meanings.split(), mask.image.flag_masks, strict=True))["bad"] == 1
    )


def test_a_ratio_of_masters_by_xarray():
    bright, faint = flat(1), flat(2)
    faint.image.values[3, 4] = 0.5
    assert where(daskcal.ccdmask(bright.image / faint.image)) == [[3, 4]]


@pytest.mark.parametrize("byblocks", [False, True])
def test_pixels_without_a_value_are_bad_and_spoil_no_others(byblocks):
    image = flat()
    image.image.values[5:9, 5:9] = np.nan
    image.image.values[30, 3] = np.inf
    image.image.values[20, 20] = 2
    expected = np.zeros(SHAPE, bool)
    expected[5:9, 5:9] = expected[30, 3] = expected[20, 20] = True
    np.testing.assert_array_equal(daskcal.ccdmask(image, byblocks=byblocks).image != 0, expected)


@pytest.mark.parametrize("options", [{"ncmed": 0}, {"nlsig": 1.5}, {"lsigma": -1}, {"ngood": True}])
def test_numbers_that_cannot_be_used(options):
    with pytest.raises(daskcal.ArgumentError, match=next(iter(options))):
        daskcal.ccdmask(flat(), **options)


@pytest.mark.parametrize(("share", "columns"), [(0.3, [2]), (0.1, [2, 9]), (0.5, [])])
def test_columns_with_many_bad_pixels_are_bad_as_a_whole(share, columns):
    bits = np.zeros((20, 12), np.uint16)
    bits[::2, 2] = 2  # hot: 10 of 20
    bits[5:8, 9] = 1  # 3 of 20
    bits[4, 4] = 1
    mask = make_master(bits, bits.shape, units="")
    mask["image"].attrs = daskcal.ccdmask(flat()).image.attrs
    with no_computing():
        whole = daskcal.bad_columns(mask, share=share)
    expected = bits.copy()
    expected[:, columns] |= 1
    np.testing.assert_array_equal(whole.image, expected)


def test_a_share_that_is_none():
    with pytest.raises(daskcal.ArgumentError, match="share=30"):
        daskcal.bad_columns(flat(), share=30)


def test_merged_masks_keep_their_reasons():
    dark = make_master(np.full(SHAPE, 10.0, "f4"), SHAPE)
    dark.image.values[7, 8] = dark.image.values[9, 9] = 900
    image = flat()
    image.image.values[7, 8] = image.image.values[1, 2] = 0
    other = make_master(np.zeros(SHAPE, np.uint8), SHAPE)
    other.image.values[50, 60] = 7
    with no_computing():
        merged = daskcal.merge_masks(daskcal.ccdmask(image), daskcal.hot_pixels(dark), other)
    found = {(y, x): merged.image.values[y, x] for y, x in where(merged)}
    assert found == {(7, 8): BAD | HOT, (9, 9): HOT, (1, 2): BAD, (50, 60): BAD}
    assert [r.step for r in steps_of(merged)] == ["ccdmask", "merge_masks"]


def test_masks_of_different_windows_are_not_merged():
    with pytest.raises(daskcal.GeometryError, match=r"mask 2 .*\[0:59, 0:80\]"):
        daskcal.merge_masks(flat(), make_master(0, (59, 80)))
    with pytest.raises(daskcal.ArgumentError, match="a mask at least"):
        daskcal.merge_masks()


def test_frames_get_the_reasons(tmp_path):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [np.zeros((NY, NX), "u2")] * 2))
    bits = np.zeros((NY, NX), np.uint16)
    bits[2, 3], bits[4, 5], bits[6, 7] = BAD, HOT, BAD | HOT
    mask = make_master(bits, units="")
    plain = daskcal.flag_bad(frames, mask)
    np.testing.assert_array_equal(plain.mask.values[1], np.where(bits != 0, BAD, 0))
    mask["image"].attrs = daskcal.ccdmask(flat()).image.attrs
    with no_computing():
        trimmed = daskcal.trim_image(frames, "[1:9, 2:]")
        flagged = daskcal.flag_bad(trimmed, mask)
    np.testing.assert_array_equal(flagged.mask.values[1], bits[1:9, 2:])


def test_the_record_says_how_the_mask_was_made(tmp_path):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [np.zeros(SHAPE, "u2")]))
    mask = daskcal.bad_columns(daskcal.ccdmask(flat().assign_attrs(file="r.fits", checksum="c")))
    (record,) = steps_of(daskcal.flag_bad(frames, mask))
    assert [step["step"] for step in record.parameters["mask"]] == ["ccdmask", "bad_columns"]
    assert record.parameters["mask"][0]["masters"] == [{"file": "r.fits", "checksum": "c"}]
    again = daskcal.bad_columns(daskcal.ccdmask(flat().assign_attrs(file="r.fits", checksum="c")))
    assert again.attrs == mask.attrs
    assert isinstance(mask, xr.Dataset)

"""The recipe is found again after selections only; whatever a user did to the pixels is kept."""

import numpy as np
import pytest
import xarray as xr
from raw_fits import counted_reads, write_frames

import daskcal
from daskcal.frames.blocks import recover
from daskcal.frames.recipe import Arrays, Files

N, NY, NX = 4, 16, 24
RNG = np.random.default_rng(3)
IMAGES = np.array([RNG.integers(500, 60000, (NY, NX), np.uint16) for _ in range(N)])


@pytest.fixture
def frames(tmp_path):
    return daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES, GAIN=[1.0, 2.0, 3.0, 4.0]))


@pytest.fixture
def flagged(frames):
    return daskcal.flag_saturated(frames, 50000)


def electrons(frames):
    return daskcal.gain_correct(frames).image.values


def is_read_from_files(frames):
    return isinstance(recover(frames).recipe.source, Files)


SELECTIONS = {
    "all": lambda ds: ds,
    "list": lambda ds: ds.isel(frame=[3, 1]),
    "one": lambda ds: ds.isel(frame=[2]),
    "twice the same": lambda ds: ds.isel(frame=[0, 0, 1]),
    "slice": lambda ds: ds.isel(frame=slice(1, 3)),
    "reversed frames": lambda ds: ds.isel(frame=slice(None, None, -1)),
    "query": lambda ds: ds.query(frame="gain > 2"),
    "boolean": lambda ds: ds.isel(frame=np.array([True, False, False, True])),
    "sorted": lambda ds: ds.sortby("gain", ascending=False),
    "rows": lambda ds: ds.isel(y=slice(3, 9)),
    "rows by label": lambda ds: ds.sel(y=slice(3, 9), x=slice(0, 3)),
    "all of it": lambda ds: ds.isel(frame=[2, 0], y=slice(3, 9), x=slice(-5, None)),
    "in turn": lambda ds: (
        ds.isel(y=slice(3, 12)).isel(frame=[2, 0, 1]).isel(y=slice(1, 5)).sel(x=[4, 5])
    ),
    "trimmed": lambda ds: daskcal.trim_image(ds, "[2:9, :20]"),
    "cut": lambda ds: daskcal.blocks(ds, rows=5).isel(y=slice(4, 11), frame=[2, 1]),
    "group": lambda ds: next(group for key, group in ds.groupby("gain") if key == 3.0),
}
BY_PIXEL = {
    "reversed rows": lambda ds: ds.isel(y=slice(None, None, -1)),
    "every third": lambda ds: ds.isel(y=slice(None, None, 3), x=slice(1, None, 2)),
    "listed rows": lambda ds: ds.isel(y=[7, 2, 2]),
    "transposed": lambda ds: ds.transpose("x", "frame", "y"),
}


@pytest.mark.parametrize("how", SELECTIONS)
def test_selected_pixels_keep_their_recipe(frames, flagged, how):
    for ds in (frames, flagged):
        chosen = SELECTIONS[how](ds)
        expected = SELECTIONS[how](ds.compute())
        # two columns given as a list are no plain range: taken as arrays
        assert is_read_from_files(chosen) == (how != "in turn")
        xr.testing.assert_identical(daskcal.blocks(chosen, rows=3).compute(), expected)
        gains = expected.gain.values[:, None, None]
        np.testing.assert_array_equal(electrons(chosen), expected.image.values * gains)


@pytest.mark.parametrize("how", BY_PIXEL)
def test_other_selections_are_right_too(flagged, how):
    chosen, expected = BY_PIXEL[how](flagged), BY_PIXEL[how](flagged.compute())
    expected = expected.transpose("frame", "y", "x")
    xr.testing.assert_identical(daskcal.blocks(chosen, rows=3).compute(), expected)
    gains = expected.gain.values[:, None, None]
    np.testing.assert_array_equal(electrons(chosen), expected.image.values * gains)


@pytest.mark.parametrize("how", ["reversed rows", "every third", "listed rows"])
def test_a_master_cannot_be_laid_over_scattered_pixels(frames, how):
    bias = xr.Dataset({"image": (("y", "x"), np.zeros((NY, NX)))})
    with pytest.raises(daskcal.GeometryError, match="select without a step"):
        daskcal.subtract_bias(BY_PIXEL[how](frames), bias)


def test_a_single_frame_without_its_dimension_is_refused(frames):
    single = frames.isel(frame=0)
    steps = [
        daskcal.blocks,
        daskcal.gain_correct,
        daskcal.flag_saturated,
        daskcal.create_variance,
        lambda ds: daskcal.subtract_overscan(ds, "[:, 20:]"),
        lambda ds: daskcal.trim_image(ds, "[:, :20]"),
        lambda ds: daskcal.subtract_bias(ds, ds),
        lambda ds: daskcal.subtract_dark(ds, ds),
        lambda ds: daskcal.flat_correct(ds, ds),
        lambda ds: daskcal.flag_bad(ds, np.zeros((NY, NX))),
    ]
    for step in steps:
        with pytest.raises(daskcal.ArgumentError, match=r"isel\(frame=\[0\]\)"):
            step(single)


@pytest.mark.parametrize("thing", [None, 3, xr.Dataset(), xr.Dataset({"flux": 1})])
def test_what_are_no_frames(thing):
    for step in (daskcal.blocks, daskcal.gain_correct, daskcal.create_variance):
        with pytest.raises(daskcal.ArgumentError, match="expected frames"):
            step(thing)


# --- a user's own changes -------------------------------------------------------------------------


def test_item_assignment_is_kept(flagged):
    flagged["image"][1, 2:4] = 7
    expected = IMAGES.copy()
    expected[1, 2:4] = 7
    np.testing.assert_array_equal(daskcal.blocks(flagged).image.values, expected)
    np.testing.assert_array_equal(electrons(flagged)[1, 2:4], 14)
    np.testing.assert_array_equal(electrons(flagged.isel(frame=[1]))[0, 2:4], 14)


def test_a_replaced_variable_is_kept(flagged):
    mask = np.zeros((N, NY, NX), bool)
    mask[:, 3, 5] = True
    flagged["mask"] = flagged.image.dims, mask
    done = daskcal.gain_correct(flagged)
    assert done.mask.dtype == done.mask.values.dtype == np.uint16
    np.testing.assert_array_equal(done.mask.values, mask)
    np.testing.assert_array_equal(done.image.values[1], 2.0 * IMAGES[1])


def test_planes_of_different_frames_are_not_mixed(flagged):
    other = flagged.isel(frame=[3, 2, 1, 0])
    flagged["mask"] = flagged.image.dims, other.mask.data
    np.testing.assert_array_equal(
        daskcal.gain_correct(flagged).mask.values, 4 * (IMAGES[::-1] >= 50000)
    )
    swapped = flagged.assign(mask=(flagged.image.dims, flagged.mask.data[:, :, ::-1]))
    np.testing.assert_array_equal(
        daskcal.gain_correct(swapped).mask.values, 4 * (IMAGES[::-1, :, ::-1] >= 50000)
    )


def test_dropped_variables_stay_dropped(flagged):
    bare = flagged.drop_vars("mask")
    assert "mask" not in daskcal.blocks(bare)
    assert "mask" not in daskcal.gain_correct(bare)
    bias = xr.Dataset({"image": (("y", "x"), np.zeros((NY, NX)))})
    assert not daskcal.subtract_bias(bare, bias).mask.values.any()
    noisy = daskcal.create_variance(flagged, bias_level=500.0)
    without = daskcal.subtract_dark(noisy.drop_vars("variance"), bias.assign_attrs(darktime=60.0))
    assert "variance" not in without
    again = daskcal.create_variance(noisy.drop_vars("variance"), bias_level=500.0)
    np.testing.assert_array_equal(again.variance.values, noisy.variance.values)


def test_dropping_the_mask_does_not_make_numbers_of_undefined_pixels(tmp_path):
    image = IMAGES[0].astype(np.int16)
    image[2, 3] = -5
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [image], BLANK=-5))
    done = daskcal.gain_correct(frames.drop_vars("mask"))
    assert np.isnan(done.image.values[0, 2, 3])
    assert "mask" not in done


@pytest.mark.parametrize("trimmed", [False, True])
def test_new_coordinates_do_not_move_pixels(frames, trimmed):
    chosen = frames.isel(x=slice(8, 20)) if trimmed else frames
    expected = chosen.compute().image.values
    for labels in (np.arange(chosen.sizes["x"]), chosen.x + 3, chosen.x - chosen.x[0] + 1):
        moved = chosen.assign_coords(x=np.asarray(labels))
        np.testing.assert_array_equal(daskcal.blocks(moved).image.values, expected)
        gains = moved.gain.values[:, None, None]
        np.testing.assert_array_equal(electrons(moved), expected * gains)
        np.testing.assert_array_equal(daskcal.gain_correct(moved).x, labels)


def test_new_paths_do_not_exchange_frames(frames):
    renamed = frames.assign_coords(path=("frame", frames.path.values[::-1]))
    np.testing.assert_array_equal(daskcal.blocks(renamed).image.values, IMAGES)
    same = frames.assign_coords(path=("frame", np.array(["a"] * N, dtype=object)))
    np.testing.assert_array_equal(electrons(same.isel(frame=[2]))[0], 3.0 * IMAGES[2])


def test_persisted_pixels_are_not_read_again(flagged, monkeypatch):
    kept = flagged.persist()
    with counted_reads(monkeypatch) as reads:
        done = daskcal.gain_correct(kept.isel(frame=[1])).compute()
    assert reads.bytes == 0
    np.testing.assert_array_equal(done.image.values[0], 2.0 * IMAGES[1])


def test_concatenated_frames(frames):
    both = xr.concat([frames.isel(frame=[3]), frames.isel(frame=[0])], "frame")
    np.testing.assert_array_equal(daskcal.blocks(both).image.values, IMAGES[[3, 0]])


# --- arrays of a user's own -----------------------------------------------------------------------


def own(**planes):
    coords = {"gain": ("frame", np.full(2, 2.0)), "rdnoise": ("frame", np.full(2, 5.0))}
    return xr.Dataset({name: (("frame", "y", "x"), a) for name, a in planes.items()}, coords)


@pytest.mark.parametrize("backing", ["numpy", "dask"])
@pytest.mark.parametrize("image_type", ["f4", ">f4", "f8", "f2", "i2", "u2", "i4"])
@pytest.mark.parametrize("variance_type", ["f4", "f8"])
def test_declared_types_are_the_real_ones(backing, image_type, variance_type):
    ds = own(image=np.ones((2, 5, 6), image_type), variance=np.ones((2, 5, 6), variance_type),
             mask=np.zeros((2, 5, 6), np.uint8))  # fmt: skip
    ds["image"].attrs["units"] = "adu"
    ds = ds.chunk() if backing == "dask" else ds
    bias = xr.Dataset({"image": (("y", "x"), np.zeros((5, 6)))})
    bias["variance"] = bias.image
    for done in (daskcal.blocks(ds), daskcal.gain_correct(ds), daskcal.subtract_bias(ds, bias),
                 daskcal.flag_saturated(ds, 3.0), daskcal.flat_correct(ds, bias + 1)):  # fmt: skip
        for name, variable in done.data_vars.items():
            assert variable.dtype == variable.compute().dtype, name
    assert daskcal.blocks(ds).variance.dtype == variance_type
    assert done.mask.dtype == np.uint16


def test_inputs_are_never_changed(tmp_path):
    image = np.ones((2, 5, 6), np.float32)
    image[0, 0, 0] = np.inf
    planes = {"image": image, "variance": image * 2, "mask": np.zeros((2, 5, 6), np.uint16)}
    ds = own(**planes)
    ds["image"].attrs.update(units="adu", quantum=1.0)
    ds.attrs["steps"] = []
    before = ds.copy(deep=True)
    bias = xr.Dataset({"image": (("y", "x"), np.full((5, 6), 3.0))})
    kept = bias.copy(deep=True)
    done = daskcal.subtract_bias(daskcal.flag_saturated(ds, 0.5), bias)
    done = daskcal.flat_correct(daskcal.gain_correct(done), bias).compute()
    assert np.isnan(done.image.values[0, 0, 0])
    assert done.mask.values[0, 0, 0] & 16
    xr.testing.assert_identical(ds, before)
    xr.testing.assert_identical(bias, kept)
    assert ds.image.attrs == before.image.attrs
    assert ds.attrs == before.attrs


def test_numpy_and_files_give_the_same(frames):
    numpy_backed = frames.compute()
    assert isinstance(recover(numpy_backed).recipe.source, Arrays)
    for ds in (frames, numpy_backed):
        done = daskcal.calibrate(
            ds, saturation=50000, overscan="[:, 20:]", trim="[2:, :20]", gain=True
        )
        assert set(done.data_vars) == {"image", "variance", "mask"}
        if ds is frames:
            expected = done.compute()
    xr.testing.assert_identical(done.compute(), expected)


@pytest.mark.parametrize("size", [0, -2, 1.5, "4", None])
def test_sizes_of_blocks(frames, size):
    for name in ("frame", "rows"):
        with pytest.raises(daskcal.ArgumentError, match=f"{name}={size!r}"):
            daskcal.blocks(frames, **{name: size})
    assert daskcal.blocks(frames, frame=np.int64(2), rows=5).image.chunks[0] == (2, 2)

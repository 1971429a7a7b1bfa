"""Where a master lies on the frames: by coordinates, else by its shape; never by a guess."""

import numpy as np
import pytest
import xarray as xr
from astropy.nddata import CCDData
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_fits import write_frames

import daskcal

NY, NX = 12, 16
RAW = (np.arange(NY * NX).reshape(NY, NX) ** 2 % 997 + 2000).astype(np.uint16)
CUT = "[1:11, 2:14]"


def plain(shape, **coords):
    """A master in memory, of which only the array is known."""
    values = 1 + np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    master = xr.Dataset({"image": (("y", "x"), values, {"units": "adu"})}, coords)
    return master.assign_attrs(exptime=10.0, darktime=10.0)


def as_ccd(master):
    return CCDData(master.image.values, unit="adu", meta={"EXPTIME": 10.0})


STEPS = {
    "bias": daskcal.subtract_bias,
    "dark": lambda frames, master: daskcal.subtract_dark(frames, master, tolerance=None),
    "flat": daskcal.flat_correct,
    "fringe": lambda frames, master: daskcal.subtract_fringe(frames, master, scale=1.0),
    "illumination": daskcal.illumination_correct,
    "mask": daskcal.flag_bad,
}


@pytest.fixture
def frames(tmp_path):
    """A frame whose header does not say where it lies."""
    return daskcal.open_frames(write_frames(tmp_path / "raw", [RAW], BUNIT="adu", EXPTIME=10.0))


def bare(frames):
    """The same frames without coordinates."""
    return frames.drop_vars(["y", "x"])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["memory", "ccddata", "file", "bare frames"])
@pytest.mark.parametrize("shape", [(14, 18), (13, NX), (NY, 18), (NY - 1, NX)])
def test_another_shape_at_an_unknown_place_is_refused(frames, tmp_path, step, kind, shape):
    master = plain(shape)
    if kind == "ccddata":
        master = as_ccd(master)
    elif kind == "file":
        daskcal.to_fits(master.assign_attrs(imagetyp="bias"), tmp_path / "master.fits")
        master = tmp_path / "master.fits"
    elif kind == "bare frames":
        frames = bare(frames)
    found = f"has {shape[0]} rows × {shape[1]} columns where the frames have {NY} × {NX}"
    with pytest.raises(daskcal.GeometryError, match=found):
        STEPS[step](frames, master)


@pytest.mark.parametrize("step", STEPS)
def test_an_array_of_the_frames_shape_lies_on_them(frames, step):
    labelled = plain((NY, NX), y=np.arange(NY), x=np.arange(NX))
    larger = plain((NY + 2, NX)).assign_coords(y=np.arange(-1, NY + 1), x=np.arange(NX))
    larger = larger.isel(y=slice(1, NY + 1)).assign(image=labelled.image)
    results = [
        STEPS[step](frames, plain((NY, NX))),
        STEPS[step](bare(frames), plain((NY, NX))),
        STEPS[step](frames, labelled),
        STEPS[step](frames, larger),
    ]
    plane = "mask" if step == "mask" else "image"
    first = results[0][plane].values
    assert step == "mask" or (first != RAW).any()
    for other in results[1:]:
        np.testing.assert_array_equal(other[plane].values, first)


def test_coordinates_of_an_array_decide(frames):
    wide = plain((NY + 3, NX + 5), y=np.arange(-3, NY), x=np.arange(-1, NX + 4))
    done = daskcal.subtract_bias(frames, wide).image.values[0]
    np.testing.assert_array_equal(done, RAW - wide.image.values[3:, 1:-4])
    with pytest.raises(daskcal.GeometryError, match="has no x coordinates; give it both, or none"):
        daskcal.subtract_bias(frames, wide.drop_vars("x"))


def test_an_array_of_the_raw_shape_lies_on_the_raw_frame(tmp_path):
    paths = write_frames(tmp_path / "raw", [RAW], BUNIT="adu", LTV1=-3.0, LTV2=-2.0)
    window = daskcal.open_frames(paths).isel(y=slice(1, 9), x=slice(4, 11))
    master = plain((NY, NX))
    expected = (RAW - master.image.values)[1:9, 4:11]
    daskcal.to_fits(master, tmp_path / "of_array.fits")
    for given_as in (master, as_ccd(master), tmp_path / "of_array.fits"):
        np.testing.assert_array_equal(daskcal.subtract_bias(window, given_as).image[0], expected)


def test_selections_of_frames_and_master_are_aligned_by_label(frames):
    """Parts of one shape that lie elsewhere: their shape says nothing."""
    bias = daskcal.combine(frames, reject=None)
    with pytest.raises(daskcal.GeometryError, match="lacks rows 0 to 2 of the frames"):
        daskcal.subtract_bias(frames.isel(y=slice(0, 8)), bias.isel(y=slice(3, 11)))


# --- a master in memory and from its file ---------------------------------------------------------


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory):
    """A trimmed frame without an origin, and its master in every form that a step takes."""
    folder = tmp_path_factory.mktemp("places")
    raw = daskcal.open_frames(write_frames(folder / "raw", [RAW], BUNIT="adu"))
    cut = daskcal.trim_image(raw, CUT)
    master = daskcal.combine(cut, reject=None)
    master = (master.drop_vars(["variance", "mask"], errors="ignore") // 3).assign_attrs(
        master.attrs
    )
    master["image"].attrs["units"] = "adu"
    daskcal.to_fits(master, folder / "master.fits")
    daskcal.to_zarr(master, folder / "master.zarr")
    forms = {
        "memory": master,
        "file": folder / "master.fits",
        "opened": daskcal.open_master(folder / "master.fits"),
        "ccddata": CCDData.read(folder / "master.fits"),
        "zarr": daskcal.open_zarr(folder / "master.zarr"),
    }
    return cut, forms


def spans(size):
    return st.tuples(st.integers(0, size), st.integers(0, size)).filter(lambda s: s[0] < s[1])


@settings(max_examples=20, deadline=None)
@given(rows=spans(10), columns=spans(12))
def test_a_window_of_frames_takes_a_master_in_every_form(trimmed, rows, columns):
    cut, forms = trimmed
    window = cut.isel(y=slice(*rows), x=slice(*columns))
    whole = daskcal.subtract_bias(cut, forms["memory"]).image.values
    expected = whole[:, slice(*rows), slice(*columns)]
    for master in forms.values():
        done = daskcal.subtract_bias(window, master)
        np.testing.assert_array_equal(done.image.values, expected)


@pytest.mark.parametrize("form", ["memory", "file", "opened", "ccddata", "zarr"])
def test_what_a_master_lacks_is_named_in_every_form(trimmed, tmp_path, form):
    forms = trimmed[1]
    raw = daskcal.open_frames(write_frames(tmp_path / "raw", [RAW], BUNIT="adu"))
    with pytest.raises(daskcal.GeometryError, match="lacks rows 0 to 0, columns 0 to 1 of the fr"):
        daskcal.subtract_bias(raw.isel(y=slice(0, 8), x=slice(0, 8)), forms[form])
    other = write_frames(tmp_path / "other", [np.pad(RAW, 2)], BUNIT="adu")
    window = daskcal.open_frames(other).isel(y=slice(2, 8), x=slice(3, 8))
    with pytest.raises(daskcal.GeometryError, match="does not say where on the detector"):
        daskcal.subtract_bias(window, forms[form])


def test_a_mask_file_keeps_the_place_of_its_mask(trimmed, tmp_path):
    cut, _ = trimmed
    mask = daskcal.bad_columns(
        daskcal.combine(cut, reject=None).assign(image=lambda m: m.image < 2100)
    )
    window = cut.isel(y=slice(3, 7), x=slice(2, 9))
    expected = daskcal.flag_bad(window, mask).mask.values
    daskcal.write_mask(mask, tmp_path / "mask.fits")
    daskcal.write_mask(mask, tmp_path / "mask.txt")
    for name in ("mask.fits", "mask.txt"):
        np.testing.assert_array_equal(daskcal.flag_bad(window, tmp_path / name).mask, expected)

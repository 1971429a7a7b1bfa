"""Every rejection by its name; which values went, and what grew from them."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import binary_dilation
from test_combine import frames_of, noisy, nothing_is_read

import daskcal
from daskcal.combination import (
    ESD,
    AveragedSigmaClip,
    CCDClip,
    CRReject,
    LinearFit,
    MinMax,
    PercentileClip,
    SigmaClip,
    VarianceClip,
    Winsorised,
    combine,
    planes,
    reject,
    rejected_frames,
)
from daskcal.combination.kernels import Reject, combine_block
from daskcal.errors import ArgumentError, CalibrationError

NAMES = [name for name in reject.REJECTIONS if name != "none"]
GAIN, NOISE = 2.0, 4.0  # electron/adu, electron


def ccd_frames(n=9, rows=12, columns=14, seed=0, outliers=0.01):
    """Frames in adu with photon and read noise, cosmic rays, and a mask."""
    rng = np.random.default_rng(seed)
    shape = (n, rows, columns)
    electrons = rng.poisson(400, shape) + rng.normal(0, NOISE, shape)
    hit = rng.random(shape) < outliers
    electrons[hit] += rng.choice([-300, 900], hit.sum())
    image = electrons / GAIN
    image[rng.random(shape) < 0.01] = np.nan
    mask = np.where(rng.random(shape) < 0.03, 4, 0).astype("u2")
    variance = (np.maximum(electrons, 0) + NOISE**2) / GAIN**2
    frames = frames_of(image.astype("f4"), mask=mask, variance=variance.astype("f4"))
    return frames.assign_coords(
        gain=("frame", np.full(n, GAIN)), rdnoise=("frame", np.full(n, NOISE))
    )


def bits_of(master):
    """What the cube says, unpacked by numpy."""
    n = master.sizes["input"]
    cube = np.unpackbits(master.rejected.values, axis=0, count=n, bitorder="little")
    return cube.astype(bool)


# --- by name ------------------------------------------------------------------------------------

OPTIONS = {
    "sigma": ({"low": 3, "high": 4, "n_keep": 2}, SigmaClip(3, 4, n_keep=2)),
    "minmax": ({"n_low": 0.2, "n_high": 2}, MinMax(0.2, 2)),
    "percentile": ({"low": 0.15}, PercentileClip(low=0.15)),
    "winsorised": ({"low": None, "maxiters": 2}, Winsorised(low=None, maxiters=2)),
    "linear_fit": ({"high": 3}, LinearFit(high=3)),
    "esd": ({"significance": 0.01}, ESD(significance=0.01)),
    "averaged_sigma": ({"center": "mean"}, AveragedSigmaClip(center="mean")),
    "variance": ({"n_keep": 3}, VarianceClip(n_keep=3)),
    "ccdclip": ({"snoise": 0.02}, CCDClip(snoise=0.02)),
    "crreject": ({"high": 4}, CRReject(high=4)),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_rejection_is_what_its_kernel_does(name):
    frames = ccd_frames(outliers=0.04)
    options, instance = OPTIONS[name]
    found = combine(frames, reject=name, **options).compute()
    xr.testing.assert_identical(combine(frames, reject=instance).compute(), found)
    lows = {"low": np.inf if instance.options().get("low", 0) is None else None}
    known = {k: v if lows.get(k) is None else lows[k] for k, v in instance.options().items()}
    known.pop("sigma_floor", None)
    known |= {"maxiters": -1} if known.get("maxiters", 0) is None else {}
    expected = combine_block(
        frames.image.values, frames.mask.values, frames.variance.values,
        reject=Reject(name, **known),
        floor="variance" if "sigma_floor" in instance.options() else None,
        read=np.full(9, NOISE / GAIN), slope=np.full(9, 1 / GAIN),
    )  # fmt: skip
    for plane in ("image", "variance", "mask", "n_used", "n_low", "n_high"):
        np.testing.assert_array_equal(found[plane], getattr(expected, plane), plane)
    assert int(found.n_low.sum() + found.n_high.sum()) > 5
    record = combine(frames, reject=name, **options).attrs["steps"][-1]
    assert f'"reject": "{name}"' in record


@pytest.mark.parametrize("name", ["variance", "ccdclip", "crreject"])
def test_the_noise_of_frames_is_that_of_their_unit(name):
    adu = ccd_frames(outliers=0.04)
    electrons = daskcal.gain_correct(adu)
    levels = [200, 100, 400] * 3
    for options in ({}, {"scale": np.linspace(0.5, 2, 9)}, {"zero": levels}):
        found = combine(adu, reject=name, **options)
        if "zero" in options:
            options = {"zero": np.array(levels) * GAIN}
        same = combine(electrons, reject=name, **options)
        np.testing.assert_array_equal(found.n_used, same.n_used)
        np.testing.assert_allclose(found.image * GAIN, same.image, rtol=1e-6)


def test_the_gain_that_made_the_variance_is_the_one_that_counts():
    frames = ccd_frames(outliers=0.04)
    unknown = frames.assign_coords(gain=("frame", np.full(9, np.nan))).drop_vars("variance")
    made = daskcal.create_variance(unknown, gain=GAIN, bias_level=0)
    assert int(combine(made, reject="ccdclip").n_high.sum()) > 5
    known = daskcal.create_variance(frames.drop_vars("variance"), bias_level=0)
    xr.testing.assert_identical(
        combine(made, reject="variance").compute().drop_attrs(),
        combine(known, reject="variance").compute().drop_attrs(),
    )


@pytest.mark.parametrize("name", ["ccdclip", "crreject"])
@pytest.mark.parametrize(("what", "wrong"), [("gain", 0), ("gain", np.nan), ("rdnoise", np.nan),
                                             ("rdnoise", -1)])  # fmt: skip
def test_a_noise_model_needs_gain_and_read_noise(name, what, wrong):
    frames = ccd_frames()
    values = frames[what].values.copy()
    values[4] = wrong
    with (
        nothing_is_read(),
        pytest.raises(CalibrationError, match=rf"{name}.*{what} of /raw/f4\.fits is"),
    ):
        combine(frames.assign_coords({what: ("frame", values)}), reject=name)
    with nothing_is_read(), pytest.raises(CalibrationError, match=what):
        combine(frames.drop_vars(what), reject=name)


# --- which values went --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("name", ["sigma", "percentile", "esd"])
def test_the_cube_and_the_counts_say_the_same(name, n):
    frames = ccd_frames(n, outliers=0.05)
    with nothing_is_read():
        lazy = combine(frames, reject=name, rejected=True)
    found = lazy.compute()
    assert found.rejected.dims == ("input_byte", "y", "x")
    assert found.rejected.dtype == lazy.rejected.dtype == np.uint8
    assert found.rejected.shape == lazy.rejected.shape == ((n + 7) // 8, 12, 14)
    cube = bits_of(found)
    np.testing.assert_array_equal(cube.sum(axis=0), found.n_low + found.n_high)
    np.testing.assert_array_equal(rejected_frames(found), cube)
    good = np.isfinite(frames.image.values) & (frames.mask.values == 0)
    assert not (cube & ~good).any()
    share = cube.sum(axis=(1, 2)) / good.sum(axis=(1, 2))
    np.testing.assert_array_equal(found.rejected_fraction, share)
    alone = combine(frames, reject=name, rejected="fraction")
    assert "rejected" not in alone
    np.testing.assert_array_equal(alone.rejected_fraction, share)
    assert found.input.values.tolist() == frames.path.values.tolist()
    kept = np.ma.array(frames.image.values.astype(float), mask=~good | cube)
    np.testing.assert_allclose(found.image, kept.mean(axis=0).filled(np.nan), rtol=1e-6)
    plain = combine(frames, reject=name)
    xr.testing.assert_identical(
        found[list(plain)].drop_vars("input", errors="ignore"), plain.compute()
    )


def test_a_frame_that_loses_much_is_seen():
    frames = ccd_frames(outliers=0)
    frames["image"][3] += 60
    found = combine(frames, rejected=True).rejected_fraction.values
    assert int(found.argmax()) == 3
    assert float(found[3]) > 0.5 > 20 * float(np.delete(found, 3).max())


def test_a_frame_without_good_pixels_has_no_share():
    frames = ccd_frames()
    frames["mask"][2] = 1
    found = combine(frames, rejected=True).rejected_fraction.values
    assert np.isnan(found[2])
    assert np.isfinite(np.delete(found, 2)).all()


def test_the_numbers_of_a_first_pass_can_be_seen():
    frames = ccd_frames()
    found = combine(
        frames, scale="median", weights=np.arange(9) + 1.0, rejected=True, section="[2:, :]"
    ).compute()
    good = frames.image.where(frames.mask == 0)[:, 2:].astype(float)
    np.testing.assert_allclose(found.scale, 1 / good.median(("y", "x")), rtol=1e-12)
    np.testing.assert_array_equal(found.weights, np.arange(9) + 1)
    assert "zero" not in found


def test_what_went_is_kept_in_a_store(tmp_path):
    made = combine(ccd_frames(11), rejected=True, scale="mean").compute()
    daskcal.to_zarr(made, tmp_path / "master.zarr")
    again = daskcal.open_zarr(tmp_path / "master.zarr")
    np.testing.assert_array_equal(rejected_frames(again), rejected_frames(made))
    xr.testing.assert_equal(again.compute(), made)


def test_unpacking_is_lazy_and_needs_the_cube(tmp_path):
    frames = ccd_frames(11)
    with nothing_is_read():
        lazy = rejected_frames(combine(frames, rejected=True))
    assert (lazy.dims, lazy.dtype, lazy.shape) == (("input", "y", "x"), bool, (11, 12, 14))
    assert lazy.sel(input="/raw/f3.fits").shape == (12, 14)
    with pytest.raises(ArgumentError, match="rejected=True"):
        rejected_frames(combine(frames))


# --- growth -------------------------------------------------------------------------------------


def disc(radius):
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return y * y + x * x <= radius * radius


@pytest.mark.parametrize("radius", [0.5, 1, 1.5, 2, 3.2, 40])
@pytest.mark.parametrize("method", ["average", "median", "sum"])
def test_growth_is_a_disc_about_rejected_values(method, radius):
    frames = ccd_frames(outliers=0.004, rows=25, columns=31)
    before = combine(frames, rejected=True, method=method).compute()
    found = combine(frames, rejected=True, grow=radius, method=method).compute()
    good = np.isfinite(frames.image.values) & (frames.mask.values == 0)
    grown = np.stack([binary_dilation(plane, disc(radius)) for plane in bits_of(before)]) & good
    starved = (good & ~grown).sum(axis=0) == 0
    assert starved.all() == (radius == 40)
    grown[:, starved] = bits_of(before)[:, starved]  # as no value would be left
    np.testing.assert_array_equal(bits_of(found), grown)
    np.testing.assert_array_equal(found.n_low + found.n_high, grown.sum(axis=0))
    np.testing.assert_array_equal(found.n_used, (good & ~grown).sum(axis=0))
    np.testing.assert_array_equal(
        found.rejected_fraction, grown.sum(axis=(1, 2)) / good.sum(axis=(1, 2))
    )
    masked = frames.assign(mask=frames.mask | np.where(grown, 16, 0).astype("u2"))
    expected = combine(masked, reject=None, method=method).compute()
    for plane in ("image", "variance", "mask"):
        np.testing.assert_array_equal(found[plane], expected[plane], plane)
    level = before.image.values / (9 if method == "sum" else 1)
    sides = np.where(frames.image.values < level, -1, 1) * grown
    extra = (sides < 0).sum(axis=0) - (bits_of(before) & (sides < 0)).sum(axis=0)
    lost = before.n_used.values == 0
    np.testing.assert_array_equal((found.n_low - before.n_low).values[~lost], extra[~lost])


@pytest.mark.parametrize("rows", [1, 4, 13, 100])
@pytest.mark.parametrize("options", [{"grow": 2.5}, {"grow": 1, "scale": "mode"}, {}])
def test_what_went_does_not_depend_on_the_layout(monkeypatch, options, rows):
    frames = ccd_frames(outliers=0.01, rows=29, columns=20)
    options = {"rejected": True, **options}
    whole = combine(frames, **options).compute()
    monkeypatch.setattr(planes, "band_rows", lambda *_, **__: rows)
    cut = combine(frames.chunk(frame=2, y=5), **options)
    xr.testing.assert_identical(cut.compute(), whole)
    assert cut.image.data.numblocks[0] >= min(29 // rows, 29)


def test_growth_with_weights_and_scales():
    frames = ccd_frames(outliers=0.01)
    scale = np.linspace(0.5, 2, 9)
    levels = frames.assign(image=frames.image / scale[:, None, None].astype("f4"))
    levels["image"].attrs = frames.image.attrs
    levels["variance"] = frames.variance / (scale**2)[:, None, None]
    options = {"grow": 1.5, "rejected": True, "weights": "inverse_variance"}
    found = combine(levels, scale=scale, **options)
    expected = combine(frames, **options)
    np.testing.assert_array_equal(found.n_used, expected.n_used)
    np.testing.assert_array_equal(found.n_low, expected.n_low)


def test_results_that_are_computed_together_read_each_pixel_once():
    seen = []

    def count(block):
        seen.append(block.size)
        return block

    frames = ccd_frames(n=5)
    frames["image"] = frames.image.chunk(frame=1).copy(
        data=frames.image.chunk(frame=1).data.map_blocks(
            count, dtype="f4", meta=np.empty((0,) * 3, "f4")
        )
    )
    found = combine(frames, rejected=True)
    dask.compute(found.image, found.rejected, found.rejected_fraction, scheduler="sync")
    assert sum(seen) == frames.image.size


# --- misuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grow": -1}, "grow=-1 should be a radius"),
        ({"grow": np.nan}, "grow=nan"),
        ({"grow": np.inf}, "grow=inf"),
        ({"grow": True}, "grow=True"),
        ({"grow": "2"}, "grow='2'"),
        ({"grow": 1, "reject": None}, "needs a rejection"),
        ({"rejected": True, "reject": "none"}, "needs a rejection"),
        ({"rejected": 1}, "rejected=1 should be True, False or 'fraction'"),
        ({"n_keep": -1}, "n_keep=-1"),
        ({"n_keep": 1.0}, "n_keep=1.0"),
        ({"n_keep": 10}, "more than there are frames"),
        ({"reject": "esd", "fraction": 0}, "fraction=0 "),
        ({"reject": "esd", "fraction": 0.6}, "fraction=0.6"),
        ({"reject": "esd", "significance": 1}, "significance=1"),
        ({"reject": "esd", "low": 3}, "low is an option of .*'percentile'.* reject='esd' has frac"),
        ({"reject": "percentile", "sigma_floor": 1}, "sigma_floor is an option of reject='sigma'"),
        ({"reject": "ccdclip", "snoise": -1}, "snoise=-1"),
        ({"reject": "crreject", "low": 3}, "low is an option of"),
        ({"reject": "winsorised", "spread": "std"}, "spread is an option of reject='sigma'"),
        ({"reject": "linear_fit", "low": -1}, "low=-1"),
        ({"reject": "minmax", "n_low": 1.0}, "n_low=1.0 should be a whole number"),
        ({"reject": "minmax", "n_low": 0.6, "n_high": 0.5}, "leave nothing of 9 frames"),
        ({"reject": "minmax", "n_low": 0.5, "n_high": 5}, "leave nothing of 9 frames"),
        ({"reject": CCDClip(high=-1)}, "high=-1"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(options, message):
    frames = ccd_frames()
    with nothing_is_read(), pytest.raises(ArgumentError, match=message):
        combine(frames, **options)


def test_a_variance_clip_needs_a_variance():
    with nothing_is_read(), pytest.raises(ArgumentError, match="'variance' needs the variance"):
        combine(ccd_frames().drop_vars("variance"), reject="variance")


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_of_nothing_and_of_everything(name):
    """0: all that is off the centre goes; None and infinity: that side is off."""
    image = noisy(9)
    frames = frames_of(image, variance=np.full_like(image, 9)).assign_coords(
        gain=("frame", np.ones(9)), rdnoise=("frame", np.full(9, 3.0))
    )
    sides = [side for side in ("low", "high") if side in reject.OPTIONS[name]]
    for off in (None, np.inf):
        if sides:
            kept = combine(frames, reject=name, **dict.fromkeys(sides, off)).compute()
            assert (kept.n_used == 9).all()
    for side in sides:
        rest = {other: None for other in sides if other != side}
        floor = {"sigma_floor": 0} if "sigma_floor" in reject.OPTIONS[name] else {}
        once = {"maxiters": 1} if "maxiters" in reject.OPTIONS[name] else {}
        found = combine(frames, reject=name, **{side: 0}, **rest, **floor, **once).compute()
        few = 0 if name == "linear_fit" else 3  # of values that lie on the line, some do not
        assert (found[f"n_{side}"] >= few).all()
        assert int(found[f"n_{side}"].sum()) > 30
        assert not found[f"n_{'low' if side == 'high' else 'high'}"].any()

"""Each step takes each amplifier's own numbers: compared with numpy, amplifier by amplifier."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from raw_fits import counted_reads, no_computing

import daskcal
from daskcal.errors import ArgumentError, CalibrationError, GeometryError
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.sections import Section

N, NY, NX, OVER = 3, 16, 24, 6
GAIN, NOISE, FULL = [1.0, 1.5, 2.0, 2.5], [4.0, 5.0, 6.0, 7.0], [9000, 8000, 7000, 6500]
RNG = np.random.default_rng(44)
LIGHT = RNG.normal(5000, 900, (N, NY, NX)).round().astype("u2")
LEVEL = np.array([900, 1100, 1000, 1300])
DARK = [(LEVEL[:, None, None] + 2 * np.arange(NY)[None, :, None]
         + RNG.normal(0, 3, (4, NY, OVER))).round().astype("u2") for _ in range(N)]  # fmt: skip
QUADRANTS = [(slice(0, 8), slice(0, 12)), (slice(0, 8), slice(12, 24)),
             (slice(8, 16), slice(0, 12)), (slice(8, 16), slice(12, 24))]  # fmt: skip


def write(folder, i, **primary):
    """A file of four HDUs, those on the right and at the top flipped."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update({"IMAGETYP": "object", "EXPTIME": 60.0, "BUNIT": "adu"} | primary)
    for k, (rows, columns) in enumerate(QUADRANTS):
        light = np.hstack([LIGHT[i][rows, columns], np.zeros((8, 0), "u2")])
        over = DARK[i][k][rows]
        x, y = (columns.start + 1, columns.stop), (rows.start + 1, rows.stop)
        if k % 2:
            light, x = light[:, ::-1], x[::-1]
        if k > 1:
            light, over, y = light[::-1], over[::-1], y[::-1]
        hdu = fits.ImageHDU(np.hstack([light, over]), name=f"A{k}")
        hdu.header.update(
            DATASEC="[1:12,1:8]", BIASSEC="[13:18,1:8]", GAIN=GAIN[k], RDNOISE=NOISE[k],
            SATURATE=FULL[k], DETSEC=f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]",
        )  # fmt: skip
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(folder / f"f{i}.fits")


@pytest.fixture
def frames(tmp_path) -> xr.Dataset:
    for i in range(N):
        write(tmp_path, i)
    return daskcal.open_frames(tmp_path)


def expected_levels(statistic=np.median) -> np.ndarray:
    """(frame, NY, NX): the level of each pixel's own overscan row."""
    levels = np.empty((N, NY, NX))
    for i in range(N):
        for k, (rows, columns) in enumerate(QUADRANTS):
            levels[i][rows, columns] = statistic(DARK[i][k][rows], axis=1)[:, None]
    return levels


def by_quadrant(values) -> np.ndarray:
    image = np.empty((NY, NX))
    for (rows, columns), value in zip(QUADRANTS, values, strict=True):
        image[rows, columns] = value
    return image


def same(found: xr.DataArray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.values, expected.astype("f4"), rtol=3e-7, atol=2e-4)


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_each_amplifier_loses_its_own_overscan(frames, statistic):
    with no_computing():
        done = daskcal.subtract_overscan(frames, method=statistic)
        trimmed = daskcal.trim_image(done)
    assert trimmed.sizes["x"] == NX
    same(trimmed.image, LIGHT - expected_levels(getattr(np, statistic)))
    left = done.image.values[:, :, NX:].reshape(N, NY, 2, OVER)
    assert np.abs(getattr(np, statistic)(left, axis=3)).max() < 1e-3
    assert not trimmed.mask.values.any()


def test_levels_may_be_fitted(frames):
    done = daskcal.trim_image(daskcal.subtract_overscan(frames, model="polynomial", order=1))
    lines = np.arange(NY)
    expected = np.empty((N, NY, NX))
    for i in range(N):
        for k, (rows, columns) in enumerate(QUADRANTS):
            fit = np.polyfit(lines[rows], np.median(DARK[i][k][rows], axis=1), 1)
            expected[i][rows, columns] = np.polyval(fit, lines[rows])[:, None]
    np.testing.assert_allclose(done.image.values, LIGHT - expected, atol=2e-3)
    with pytest.raises(ArgumentError, match="axis='column'"):
        daskcal.subtract_overscan(frames, axis="column")


def test_saturation_gain_and_variance_are_each_amplifier_s_own(frames):
    done = daskcal.flag_saturated(frames)
    done = daskcal.trim_image(daskcal.subtract_overscan(done, method="mean"))
    noisy = daskcal.create_variance(done)
    signal = LIGHT - expected_levels(np.mean)
    gain, noise = by_quadrant(GAIN), by_quadrant(NOISE)
    np.testing.assert_array_equal(done.mask.values == 4, by_quadrant(FULL) <= LIGHT)
    readout = noise**2 / gain**2
    variance = np.maximum(signal, 0) / gain + readout + 1 / 12 + readout / OVER
    np.testing.assert_allclose(noisy.variance.values, variance, rtol=1e-5)
    electron = daskcal.gain_correct(noisy)
    np.testing.assert_allclose(electron.image.values, signal * gain, rtol=1e-5)
    np.testing.assert_allclose(electron.variance.values, variance * gain**2, rtol=1e-5)
    assert electron.gain.values.tolist() == [1.0] * N
    assert (electron.amp_gain.values == 1).all()
    later = daskcal.create_variance(daskcal.gain_correct(done))
    np.testing.assert_allclose(later.variance.values, variance * gain**2, rtol=1e-5)


def test_all_steps_at_once_and_in_any_layout(frames):
    at_once = daskcal.calibrate(frames, saturation=True, overscan={}, trim={}, gain=True)
    expected = daskcal.flag_saturated(frames).pipe(daskcal.subtract_overscan)
    expected = expected.pipe(daskcal.trim_image).pipe(daskcal.gain_correct)
    expected = expected.pipe(daskcal.create_variance)
    for plane in ("image", "variance", "mask"):
        bits = expected[plane].values.tobytes()
        assert at_once[plane].values.tobytes() == bits
        for frame, rows in ((-1, 5), (1, 3), (2, -1)):
            again = daskcal.blocks(at_once, frame=frame, rows=rows)
            assert again[plane].values.tobytes() == bits
    chosen = at_once.isel(frame=[2, 0])
    assert chosen.image.values.tobytes() == expected.image.values[[2, 0]].tobytes()
    assert at_once.isel(y=slice(6, 10)).image.values.tobytes() == (
        expected.image.values[:, 6:10].tobytes()
    )


def test_numbers_that_are_given_hold_for_all_amplifiers(frames):
    done = daskcal.trim_image(frames)
    same(daskcal.gain_correct(done, gain=3.0).image, LIGHT * 3.0)
    flagged = daskcal.flag_saturated(done, level=5000.0)
    np.testing.assert_array_equal(flagged.mask.values == 4, LIGHT >= 5000)


def test_what_an_amplifier_lacks_is_named(frames):
    unknown = frames.amp_gain.copy()
    unknown[1, 2] = np.nan
    lacking = frames.assign_coords(amp_gain=unknown)
    with pytest.raises(CalibrationError, match=r"f1.fits, amplifier A2, has no known gain"):
        daskcal.gain_correct(lacking)
    with pytest.raises(CalibrationError, match=r"the gain of .*f1.fits, amplifier A2, is nan"):
        daskcal.create_variance(daskcal.subtract_overscan(lacking))
    assert not daskcal.calibration.noise_is_known(lacking)
    with pytest.raises(CalibrationError, match=r"amplifier A0 of .*f0.fits does not say where it"):
        daskcal.flag_saturated(frames.assign_coords(amp_saturation=frames.amp_saturation * np.nan))
    with pytest.raises(GeometryError, match="outside"):
        daskcal.subtract_overscan(frames.isel(x=slice(0, NX)).copy(deep=True).compute())


def test_each_band_reads_its_rows_once(frames, monkeypatch):
    done = daskcal.calibrate(frames, saturation=True, overscan={}, trim={}, gain=True)
    with counted_reads(monkeypatch) as reads:
        daskcal.combine(done).compute(scheduler="sync")
    assert reads.bytes == N * NY * 2 * (12 + OVER) * 2


@pytest.mark.parametrize(
    "options",
    [
        {"reject": "ccdclip", "low": 1.0, "high": 1.0},
        {"reject": "crreject", "high": 1.0, "grow": 1.5},
        {"weights": "inverse_variance", "low": 2.0, "high": 2.0},
        {"reject": "ccdclip", "low": 1.0, "high": 1.0, "rejected": True},
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_combine_knows_the_noise_of_each_amplifier(frames, options, cut):
    """Each quadrant as it is when it is combined alone, with its gain and read noise for all."""
    done = daskcal.calibrate(frames, overscan={}, trim={}, variance=True)
    done = done.isel(y=slice(3, 15), x=slice(2, 23)) if cut else done
    found = daskcal.combine(done, **options).compute()
    for k, amp in enumerate(amplifiers(done)):
        rows, columns = ((s.start, s.stop - 1) for s in amp.section.within(Section(0, 0, 0, 0)))
        if "grow" in options:  # away from where rejections of another amplifier grow from
            rows, columns = (rows[0] + 2, rows[1] - 2), (columns[0] + 2, columns[1] - 2)
        one = done.drop_dims("amplifier").assign_coords(
            gain=("frame", np.full(N, GAIN[k])), rdnoise=("frame", np.full(N, NOISE[k]))
        )
        one.attrs["steps"] = [step for step in one.attrs["steps"] if "variance" not in step]
        alone = daskcal.combine(one, **options).compute()
        here = {"y": slice(*rows), "x": slice(*columns)}
        for plane in ("image", "variance", "n_used", "n_low", "n_high"):
            np.testing.assert_array_equal(found[plane].sel(here), alone[plane].sel(here), plane)
    if "rejected" in options:
        lost = found.n_low.values + found.n_high.values
        assert lost.sum() > 20
        bits = daskcal.rejected_frames(found)
        np.testing.assert_array_equal(bits.sum("input").values, lost)


def test_products_carry_what_was_done(frames, tmp_path):
    done = daskcal.calibrate(frames, overscan={}, trim={}, gain=True)
    (written, *_) = daskcal.to_fits(done, tmp_path / "out")
    header = fits.getheader(written.path)
    assert (header["NAXIS1"], header["NAXIS2"], header["BUNIT"]) == (NX, NY, "electron")
    assert not {"DATASEC", "BIASSEC", "DETSEC"} & set(header)
    history = "".join(str(header["HISTORY"]).split("\n"))
    assert '"gain": [1.0, 1.5, 2.0, 2.5]' in history.replace("daskcal: ", "")
    master = daskcal.combine(done)
    daskcal.to_fits(master, tmp_path / "master.fits")
    again = daskcal.open_frames(tmp_path / "master.fits")
    assert amplifiers(again) == ()
    np.testing.assert_array_equal(again.image.values[0], master.image.values)


def test_they_survive_zarr(frames, tmp_path):
    daskcal.to_zarr(daskcal.subtract_overscan(frames), tmp_path / "f.zarr")
    again = daskcal.open_zarr(tmp_path / "f.zarr")
    assert amplifiers(again) == amplifiers(frames)
    same(daskcal.gain_correct(daskcal.trim_image(again)).image,
         (LIGHT - expected_levels()) * by_quadrant(GAIN))  # fmt: skip

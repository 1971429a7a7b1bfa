"""Crosstalk between the amplifiers of a detector, against amplifiers simulated one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amplified import AMPS, DARK, HX, HY, NX, NY, WIDTH, put_back, read_together, with_amplifiers
from raw_fits import no_computing, write_frames

import daskcal
from daskcal.frames.steps import steps_of

MATRIX = np.array(
    [[0, 1e-2, 3e-2, 0], [2e-2, 0, 0, 5e-3], [0, 4e-3, 0, 1e-2], [1e-2, 2e-2, 3e-3, 0]]
)


def scene(n=3) -> np.ndarray:
    """Raw images, uint16, with a few bright pixels and a bias level for each amplifier."""
    rng = np.random.default_rng(2)
    images = rng.normal(1000, 5, (n, NY, WIDTH))
    for i, amp in enumerate(AMPS):
        for part in (amp.section, amp.overscan):
            images[:, part.y0 : part.y1, part.x0 : part.x1] += 100 * i
    for image in images:
        for y, x in rng.integers(0, (NY, NX), (6, 2)):
            image[y, x] += 30_000
    return images.round().astype(np.uint16)


def corrected(images, matrix=MATRIX) -> np.ndarray:
    out = images.astype(np.float64)
    for image, done in zip(images.astype(np.float64), out, strict=True):
        read = [read_together(image, amp) for amp in AMPS]
        for v, amp in enumerate(AMPS):
            put_back(done, amp, read[v] - sum(matrix[v, s] * read[s] for s in range(len(AMPS))))
    return out


@pytest.fixture(params=["files", "numpy", "dask"])
def frames(request, tmp_path):
    opened = with_amplifiers(daskcal.open_frames(write_frames(tmp_path / "raw", list(scene()))))
    if request.param == "numpy":
        return opened.compute()
    if request.param == "dask":  # a user's own arithmetic, in blocks that fit nothing
        return opened.assign(image=(opened.image + 0).chunk(y=7, x=11))
    return opened


@pytest.mark.parametrize("rows", [1, 7, 64, -1])
def test_what_leaked_leaves(frames, rows):
    done = daskcal.correct_crosstalk(daskcal.blocks(frames, rows=rows), MATRIX)
    cut = daskcal.blocks(done, rows=rows).image.values
    np.testing.assert_allclose(cut, corrected(scene()), rtol=1e-6)
    np.testing.assert_array_equal(cut, done.image.values)
    assert done.image.dtype == np.float32


def test_truth_comes_back_and_so_does_the_bias(frames):
    """Ghosts of simulated stars, to the square of the factor; the level leaves with overscan."""
    truth = scene().astype(np.float64)
    small = MATRIX / 50
    seen = 2 * truth - corrected(truth, small)  # truth + what leaks
    raw = frames.assign(image=(frames.image.dims, seen.round().astype(np.uint16)))
    raw = with_amplifiers(raw.assign(image=raw.image.assign_attrs(units="adu")))
    done = daskcal.correct_crosstalk(raw, small)
    left = np.abs(done.image.values - truth).max()
    assert np.abs(seen - truth).max() > 15
    assert left < 1.0  # rounding, and the square of 6e-4 of 30,000


def test_by_name_and_only_some(frames):
    named = daskcal.correct_crosstalk(frames, {"A": {"C": 0.03}, "D": {"A": 0.01}})
    matrix = np.zeros((4, 4))
    matrix[0, 2], matrix[3, 0] = 0.03, 0.01
    np.testing.assert_allclose(named.image.values, corrected(scene(), matrix), rtol=1e-6)
    assert steps_of(named)[-1].parameters == {"matrix": matrix.tolist()}


def test_trimmed_windowed_and_selected(frames):
    done = daskcal.correct_crosstalk(daskcal.flag_saturated(frames, 20_000), MATRIX)
    expected = corrected(scene())
    part = daskcal.trim_image(done, f"[5:{NY - 2}, 3:{NX - 1}]").isel(frame=[2, 0])
    np.testing.assert_allclose(
        part.image.values, expected[[2, 0], 5 : NY - 2, 3 : NX - 1], rtol=1e-6
    )
    flagged = (scene() >= 20_000)[[2, 0], 5 : NY - 2, 3 : NX - 1]
    np.testing.assert_array_equal(part.mask.values == 4, flagged)


def test_a_window_of_files_reads_what_leaks_into_it(tmp_path):
    frames = with_amplifiers(daskcal.open_frames(write_frames(tmp_path, list(scene()))))
    window = frames.isel(y=slice(5, 9), x=slice(0, NX))
    done = daskcal.correct_crosstalk(window, MATRIX)
    np.testing.assert_allclose(done.image.values, corrected(scene())[:, 5:9, :NX], rtol=1e-6)
    with pytest.raises(daskcal.GeometryError, match="read whole frames"):
        daskcal.correct_crosstalk(window.compute(), MATRIX)


def test_overscan_after_it(frames):
    """The median of rows of overscan sees what the pixels are after the crosstalk."""
    amp = AMPS[0].overscan
    done = daskcal.correct_crosstalk(frames, MATRIX)
    done = daskcal.subtract_overscan(done, f"[:, {amp.x0}:{amp.x1}]")
    expected = corrected(scene())
    level = np.median(expected[:, :, amp.x0 : amp.x1], axis=2)
    np.testing.assert_allclose(
        daskcal.trim_image(done, f"[:, :{NX}]").image.values,
        (expected - level[:, :, None])[:, :, :NX],
        rtol=1e-6, atol=2e-3,
    )  # fmt: skip


def test_sources_without_a_value_leave_the_pixel_alone(tmp_path):
    images = scene().astype(np.int16)
    images[0, 3, 5] = -32768
    paths = write_frames(tmp_path, list(images), BLANK=-32768)
    done = daskcal.correct_crosstalk(with_amplifiers(daskcal.open_frames(paths)), MATRIX)
    matrix, expected = MATRIX.copy(), corrected(images)
    only = images[0].astype(float)
    only[3, 5] = 0
    expected[0] = corrected(only[None], matrix)[0]
    expected[0, 3, 5] = np.nan
    np.testing.assert_allclose(done.image.values, expected, rtol=1e-6)
    assert done.mask.values[0, 3, 5] == 16


def test_nothing_is_opened(tmp_path):
    frames = with_amplifiers(daskcal.open_frames(write_frames(tmp_path, list(scene()))))
    with no_computing():
        daskcal.correct_crosstalk(frames, MATRIX)


def test_errors(frames, tmp_path):
    plain = frames.drop_dims("amplifier")
    with pytest.raises(daskcal.ArgumentError, match="several amplifiers"):
        daskcal.correct_crosstalk(plain, MATRIX)
    for matrix, message in (
        (MATRIX[:3], r"4 × 4 numbers"),
        (MATRIX + np.eye(4), "0 on its diagonal"),
        (MATRIX * 100, "fractions"),
        ({"A": {"E": 0.1}}, "no amplifier 'E'"),
    ):
        with pytest.raises(daskcal.ArgumentError, match=message):
            daskcal.correct_crosstalk(frames, matrix)
    amps = (replace(AMPS[0], overscan=None), *AMPS[1:])
    with pytest.raises(daskcal.GeometryError, match="cannot be told"):
        daskcal.correct_crosstalk(with_amplifiers(frames, amps), MATRIX)
    done = daskcal.subtract_overscan(frames, f"[:, {NX}:]")
    with pytest.raises(daskcal.CalibrationError, match="subtract_overscan changed them"):
        daskcal.correct_crosstalk(done, MATRIX)
    half = daskcal.open_frames(write_frames(tmp_path / "half", list(scene()[:, : HY + 2])))
    with pytest.raises(daskcal.GeometryError, match="do not mirror"):
        daskcal.correct_crosstalk(with_amplifiers(half), MATRIX)
    narrow = daskcal.open_frames(
        write_frames(tmp_path / "narrow", list(scene()[:, :, : HX + DARK]))
    )
    with pytest.raises(daskcal.GeometryError, match="read whole frames"):
        daskcal.correct_crosstalk(with_amplifiers(narrow), MATRIX)

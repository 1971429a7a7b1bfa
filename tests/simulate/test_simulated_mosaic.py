"""The simulated mosaic against its own headers and its stated truth."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import ArgumentError, OutputError
from daskcal.simulate import CAMERAS, SimulatedNight, Truth, load_truth, simulate_night
from daskcal.simulate.mosaic import Tiles, read_chip

SIZE = (64, 96)
CHIPS = ("CCD1", "CCD2", "CCD3", "CCD4")
CAMERA = CAMERAS["mosaic"]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> SimulatedNight:
    counts = {"n_bias": 3, "n_dark": 1, "n_flat": 2, "n_science": 1}
    return simulate_night(tmp_path_factory.mktemp("sim"), "mosaic", size=SIZE, **counts)


def section(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (0-based) of a section, in its order."""
    x0, x1, y0, y1 = map(int, re.findall(r"\d+", text))
    columns, rows = (
        np.arange(a, b + (1 if b >= a else -1), 1 if b >= a else -1) - 1
        for a, b in ((x0, x1), (y0, y1))
    )
    return rows, columns


def assembled(raw: np.ndarray, header: fits.Header, data: str = "DATASEC") -> np.ndarray:
    """A chip's pixels put together by nothing but its section keywords."""
    chip = np.full(SIZE, np.nan)
    for n in range(1, 5):
        rows, columns = section(header[f"{data}{n}"])
        to_rows, to_columns = section(header[f"CCDSEC{n}"])
        chip[np.ix_(to_rows, to_columns)] = raw[np.ix_(rows, columns)]
    return chip


def test_sixty_exposures_of_four_chips_with_four_amplifiers(night: SimulatedNight) -> None:
    assert sum(series.count for series in CAMERA.series) == 60
    amplifiers = [a for chip in CAMERA.chips for a in chip.amplifiers]
    assert len(amplifiers) == 16
    for name in ("gain", "rdnoise", "bias_level"):
        assert len({getattr(a, name) for a in amplifiers}) == 16
    assert len({chip.crosstalk for chip in CAMERA.chips}) == 4
    with fits.open(night.files[0]) as hdus:
        assert tuple(hdu.name for hdu in hdus[1:]) == CHIPS
        assert all(hdu.data.shape == Tiles(*SIZE, 24).shape for hdu in hdus[1:])


def test_sections_say_where_the_pixels_are(night: SimulatedNight) -> None:
    header = fits.getheader(night.files[0], "CCD3")
    tiles, pattern = Tiles(*SIZE, 24), np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    raw = np.full(tiles.shape, -1)
    for i in range(4):
        tiles.of_extension(raw, i)[:, : SIZE[1] // 2] = tiles.of_chip(pattern, i)
    np.testing.assert_array_equal(assembled(raw, header), pattern)
    for n in range(1, 5):
        rows, columns = section(header[f"BIASSEC{n}"])
        assert (raw[np.ix_(rows, columns)] == -1).all()
        ccd, det = section(header[f"CCDSEC{n}"]), section(header[f"DETSEC{n}"])
        assert all(len(set((a - b).tolist())) == 1 for a, b in zip(ccd, det, strict=True))


def test_the_answer_of_a_chip_is_that_of_its_truth() -> None:
    """Without noise: linear again by the stated curves, less the stated leaks, times the gain."""
    chip = replace(
        CAMERA.chips[1], amplifiers=tuple(replace(a, rdnoise=0) for a in CAMERA.chips[1].amplifiers)
    )
    camera, geometry = replace(CAMERA, drift=0), CAMERA.geometry(SIZE)
    charge = np.random.default_rng(1).uniform(0, 60_000, SIZE)
    bias = np.full(SIZE, camera.bias_level)
    raw = read_chip(camera, geometry, chip, bias, charge, np.random.default_rng(0)).astype(float)
    tiles = Tiles(*SIZE, 24)
    matrix = np.eye(4) + np.array(chip.crosstalk)
    seen = np.stack([tiles.of_extension(raw, i) for i in range(4)])
    apart = np.linalg.solve(matrix, seen.reshape(4, -1)).reshape(seen.shape)
    found = np.empty(SIZE)
    for i, amplifier in enumerate(chip.amplifiers):
        assert np.abs(apart[i][:, SIZE[1] // 2 :] - amplifier.bias_level).max() < 0.51
        above = apart[i][:, : SIZE[1] // 2] - amplifier.bias_level
        true = above * (1 + amplifier.bend * above) * amplifier.gain
        tiles.of_chip(found, i)[:] = true
    assert np.abs(found - charge).max() < 0.6 * max(a.gain * 1.2 for a in chip.amplifiers)
    assert np.abs(seen[0] - apart[0]).max() > 3  # the leaks are there


def test_levels_are_those_of_the_headers(night: SimulatedNight) -> None:
    biases = [path for path in night.files if path.name.startswith("bias")]
    for chip in CAMERA.chips:
        header = fits.getheader(biases[0], chip.name)
        images = [fits.getdata(path, chip.name).astype(float) for path in biases]
        for n, amplifier in enumerate(chip.amplifiers, 1):
            overscan = np.ix_(*section(header[f"BIASSEC{n}"]))
            level = np.mean([image[overscan] for image in images])
            assert level == pytest.approx(amplifier.bias_level * (1 + sum(chip.crosstalk[n - 1])),
                                          abs=10)  # fmt: skip
            rows = np.array([image[overscan] for image in images])  # each row has its own level
            found = np.sqrt(rows.var(axis=2, ddof=1).mean())
            assert found == pytest.approx(np.hypot(amplifier.rdnoise / amplifier.gain, 12**-0.5),
                                          rel=0.07)  # fmt: skip
            assert header[f"GAIN{n}"] == pytest.approx(amplifier.gain)
            assert header[f"RDNOISE{n}"] == pytest.approx(amplifier.rdnoise)


def test_each_chip_has_a_truth(night: SimulatedNight) -> None:
    truths = [load_truth(night.truth, name) for name in CHIPS]
    assert [truth.detector for truth in truths] == list(CHIPS)
    assert [truth.throughput for truth in truths] == [c.throughput for c in CAMERA.chips]
    assert truths[2].amplifiers == CAMERA.chips[2].amplifiers
    assert truths[2].crosstalk == CAMERA.chips[2].crosstalk
    skies = {frame.sky / truth.throughput for truth in truths for frame in truth.frames
             if frame.stem.startswith("ngc7789_g")}  # fmt: skip
    assert len({round(sky, 6) for sky in skies}) == 1
    _check_sky(truths[0], night)
    with pytest.raises(ArgumentError, match="CCD1, CCD2"):
        load_truth(night.truth)
    with pytest.raises(ArgumentError, match="did you mean 'CCD4'"):
        load_truth(night.truth, "CCD")


def _check_sky(truth: Truth, night: SimulatedNight) -> None:
    name = "ngc7789_g_001_CCD1.fits"
    image = truth.image(name)
    assert image.shape == SIZE
    sky = truth.sky_pixels(name)
    assert sky.mean() > 0.2  # much of a small chip is starlight
    assert np.abs(image[sky] - truth.frame(name).sky).max() < 1
    header = fits.getheader(night.folder / "ngc7789_g_001.fits", "CCD1")
    raw = assembled(fits.getdata(night.folder / "ngc7789_g_001.fits", "CCD1"), header)
    quarter = (slice(None, SIZE[0] // 2), slice(None, SIZE[1] // 2))
    amplifier = truth.amplifiers[0]
    level = amplifier.bias_level * (1 + sum(truth.crosstalk[0]))
    expected = (image * truth.flat("g") + truth.dark() * 120.0)[quarter] / amplifier.gain
    good = sky[quarter]
    assert (raw[quarter] - level)[good].mean() == pytest.approx(expected[good].mean(), abs=12)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, night: SimulatedNight) -> None:
    again = simulate_night(tmp_path / "a", "mosaic", size=SIZE, n_bias=1, n_dark=0, n_flat=1,
                           n_science=1)  # fmt: skip
    for path in again.files:
        assert path.read_bytes() == (night.folder / path.name).read_bytes()
    other = simulate_night(tmp_path / "b", "mosaic", size=SIZE, seed=1, n_bias=1, n_dark=0,
                           n_flat=0, n_science=0)  # fmt: skip
    assert other.files[0].read_bytes() != again.files[0].read_bytes()


def test_an_earlier_night_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    few = {"n_bias": 1, "n_dark": 0, "n_flat": 0, "n_science": 0}
    made = simulate_night(tmp_path / "n", "mosaic", size=SIZE, **few)
    simulate_night(tmp_path / "n", "mosaic", size=SIZE, overwrite=True, **few)
    (made.folder / "mine.fits").write_bytes(b"")
    with pytest.raises(OutputError, match=r"mine\.fits, which was not simulated"):
        simulate_night(tmp_path / "n", "mosaic", size=SIZE, overwrite=True, **few)
    with pytest.raises(ArgumentError, match="even"):
        simulate_night(tmp_path / "o", "mosaic", size=(65, 96))


def test_gains_and_noise_change_in_proportion(tmp_path: Path) -> None:
    made = simulate_night(tmp_path / "n", "mosaic", size=SIZE, gain=3.0, rdnoise=3.0, n_bias=1,
                          n_dark=0, n_flat=0, n_science=0)  # fmt: skip
    own = CAMERA.chips[0].amplifiers[2]
    found = load_truth(made.truth, "CCD1").amplifiers[2]
    assert found.gain == pytest.approx(2 * own.gain)
    assert found.rdnoise == pytest.approx(own.rdnoise / 2)

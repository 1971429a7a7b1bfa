"""A simulated mosaic: each chip read through four amplifiers, which bend, and leak into each other.

The pixels of an amplifier stand in an extension in the order in which they were read, its overscan
behind each row; its sections are those of NOAO's mosaics, with its number behind the keyword, and
run backwards where it reads from the right or the top.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from daskcal.simulate.cameras import Camera, Chip, Geometry
from daskcal.simulate.detector import CR, FULL_SCALE, SATURATED, Detector, make_detector, row_drift
from daskcal.simulate.exposure import expected_light
from daskcal.simulate.headers import Card, Shot, exposure_cards, pointing
from daskcal.simulate.sky import Stars, make_cosmics
from daskcal.simulate.truth import TrueFrame, write_detector, write_facts, write_frame

if TYPE_CHECKING:
    from daskcal.simulate.night import Maker

_CHIP, _FRAME, _STARS = 3, 4, 5  # families of random streams beside those of single detectors
_GAP = 40  # pixels between chips on the sky
_FIRST_READ = ("bottom left", "bottom right", "top left", "top right")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A chip with its maps and the stars on it."""

    chip: Chip
    detector: Detector
    stars: Stars


@dataclass(frozen=True, slots=True)
class Tiles:
    """Where the amplifiers of a chip lie, on it and in its extension.

    Attributes
    ----------
    ny, nx : int
        Rows and columns of the chip, both even.
    overscan : int
        Columns of each amplifier's.
    """

    ny: int
    nx: int
    overscan: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the extension."""
        return self.ny, self.nx + 2 * self.overscan

    def of_chip(self, image: np.ndarray, i: int) -> np.ndarray:
        """What amplifier `i` reads of an image of the chip, in its own order (a view)."""
        rows = slice(None, self.ny // 2) if i < 2 else slice(None, self.ny // 2 - 1, -1)
        columns = slice(None, self.nx // 2) if i % 2 == 0 else slice(None, self.nx // 2 - 1, -1)
        return image[rows, columns]

    def of_extension(self, raw: np.ndarray, i: int) -> np.ndarray:
        """Its pixels in an image of the extension, those of its overscan last (a view)."""
        height, width = self.ny // 2, self.nx // 2 + self.overscan
        y, x = i // 2 * height, i % 2 * width
        return raw[y : y + height, x : x + width]

    def sections(self, i: int, origin: tuple[int, int]) -> Iterator[Card]:
        """Its section keywords; `origin` is that of the chip in the mosaic (column, row)."""
        height, half = self.ny // 2, self.nx // 2
        y, x = i // 2 * height, i % 2 * (half + self.overscan)
        rows = f"{y + 1}:{y + height}"
        ys = (1, height) if i < 2 else (self.ny, height + 1)
        xs = (1, half) if i % 2 == 0 else (self.nx, half + 1)
        n = i + 1
        yield f"DATASEC{n}", f"[{x + 1}:{x + half},{rows}]", "its pixels here"
        overscan = f"{x + half + 1}:{x + half + self.overscan}"
        yield f"BIASSEC{n}", f"[{overscan},{rows}]", "its overscan here"
        yield f"CCDSEC{n}", f"[{xs[0]}:{xs[1]},{ys[0]}:{ys[1]}]", "its pixels on the chip"
        xs, ys = (
            (first + at, last + at) for (first, last), at in zip((xs, ys), origin, strict=True)
        )
        yield f"DETSEC{n}", f"[{xs[0]}:{xs[1]},{ys[0]}:{ys[1]}]", "its pixels in the mosaic"


def make_mosaic(work: Path, maker: Maker, shots: tuple[Shot, ...]) -> None:
    """Write the raw frames of a mosaic, and a folder of truth for each of its chips."""
    raw, truth = work / "raw", work / "truth"
    raw.mkdir()
    ready = [_prepare(maker, i, chip) for i, chip in enumerate(maker.camera.chips)]
    for one in ready:
        folder = truth / one.chip.name
        (folder / "frames").mkdir(parents=True)
        write_detector(folder, one.detector)
    with ThreadPoolExecutor(2) as pool:  # each holds all chips of its exposure
        taken = list(pool.map(lambda shot: _expose(shot, maker, ready, raw, truth), shots))
    camera = maker.camera
    facts = {"camera": camera.name, "seed": maker.seed,
             "size": [maker.geometry.ny, maker.geometry.nx]}  # fmt: skip
    for i, one in enumerate(ready):
        chip = one.chip
        numbers = {
            "gain": float(np.mean([a.gain for a in chip.amplifiers])),
            "rdnoise": float(np.mean([a.rdnoise for a in chip.amplifiers])),
            "detector": chip.name,
            "throughput": chip.throughput,
            "amplifiers": [asdict(amplifier) for amplifier in chip.amplifiers],
            "crosstalk": chip.crosstalk,
        }
        write_facts(truth / chip.name, facts | numbers, [frames[i] for frames in taken])
    names = [chip.name for chip in camera.chips]
    plain = [replace(frames[0], detector="") for frames in taken]
    write_facts(truth, facts | {"detectors": names}, plain)


def _prepare(maker: Maker, i: int, chip: Chip) -> _Ready:
    seed = int(np.random.SeedSequence(maker.seed, spawn_key=(_CHIP, i)).generate_state(1)[0])
    stars = maker.stars(maker.rng(_STARS, i))
    own = np.float64(maker.gain / maker.camera.gain)
    noise = maker.rdnoise / maker.camera.rdnoise
    amplifiers = tuple(
        replace(a, gain=float(a.gain * own), rdnoise=a.rdnoise * noise) for a in chip.amplifiers
    )
    detector = make_detector(maker.camera, maker.geometry, seed)
    return _Ready(replace(chip, amplifiers=amplifiers), detector, stars)


def _expose(
    shot: Shot, maker: Maker, ready: list[_Ready], raw: Path, truth: Path
) -> list[TrueFrame]:
    """Take one exposure with all chips: write it and its truth."""
    hdus = [fits.PrimaryHDU(header=_header(_primary(shot)))]
    frames = []
    for i, one in enumerate(ready):
        values, frame = _read(shot, maker, i, one, truth / one.chip.name / "frames")
        cards = _extension(shot, i, one.chip)
        hdus.append(fits.ImageHDU(values, _header(cards), name=one.chip.name))
        frames.append(frame)
    fits.HDUList(hdus).writeto(raw / (shot.stem + maker.camera.suffix))
    return frames


def _read(
    shot: Shot, maker: Maker, i: int, one: _Ready, truth: Path
) -> tuple[np.ndarray, TrueFrame]:
    """The numbers that one chip gives, and what is true of them."""
    series, geometry, chip = shot.series, maker.geometry, one.chip
    rng = maker.rng(_FRAME, maker.camera.series.index(series), shot.index, i)
    n_cosmics = maker.cosmics_of(shot)
    cosmics = make_cosmics(geometry, n_cosmics, rng)
    sky = maker.sky_of(shot) * chip.throughput
    flat_level = series.level(shot.index) if series.kind == "flat" else 0.0
    stars = replace(one.stars, peak=one.stars.peak * chip.throughput)
    light = flat_level * maker.gain * chip.throughput
    image, expected = expected_light(shot, one.detector, stars, sky, light)
    charge = np.zeros((geometry.ny, geometry.nx))
    if expected is not None:
        charge += rng.poisson(expected)
    if cosmics is not None:
        charge += cosmics
    values = read_chip(maker.camera, geometry, chip, one.detector.bias, charge, rng)
    if series.kind in ("dark", "science"):
        mask = one.detector.defects.copy()
        tiles = Tiles(geometry.ny, geometry.nx, geometry.overscan)
        for amp in range(len(chip.amplifiers)):
            seen = tiles.of_extension(values, amp)[:, : geometry.nx // 2]
            tiles.of_chip(mask, amp)[seen == FULL_SCALE] |= SATURATED
        if cosmics is not None:
            mask[cosmics > 0] |= CR
        write_frame(truth, f"{shot.stem}_{chip.name}", image, mask)
    return values, TrueFrame(
        file=shot.stem + maker.camera.suffix,
        kind=series.kind,
        filter=series.filter,
        exptime=shot.exptime,
        darktime=shot.darktime,
        sky=sky,
        flat_level=flat_level,
        n_cosmics=n_cosmics,
        detector=chip.name,
    )


def read_chip(
    camera: Camera,
    geometry: Geometry,
    chip: Chip,
    bias: np.ndarray,
    charge: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """What the amplifiers of a chip make of its electrons: an extension's numbers, uint16.

    The value m above the bias of a charge of t adu is that of which m·(1 + bend·m) = t.
    """
    tiles = Tiles(geometry.ny, geometry.nx, geometry.overscan)
    answers = np.empty(tiles.shape)
    for i, amplifier in enumerate(chip.amplifiers):
        answer = tiles.of_extension(answers, i)
        noise = rng.standard_normal(answer.shape)
        drift = row_drift(camera, len(answer), rng)
        answer[:] = noise * (amplifier.rdnoise / amplifier.gain) + amplifier.bias_level
        answer += drift[:, None]
        seen = answer[:, : geometry.nx // 2]
        true = tiles.of_chip(charge, i) / amplifier.gain
        seen += 2 * true / (1 + np.sqrt(1 + 4 * amplifier.bend * true))
        seen += tiles.of_chip(bias, i) - camera.bias_level
    raw = answers.copy()
    for victim, leaks in enumerate(chip.crosstalk):
        for source, part in enumerate(leaks):
            tiles.of_extension(raw, victim)[:] += part * tiles.of_extension(answers, source)
    return np.clip(np.rint(raw), 0, FULL_SCALE).astype(np.uint16)


# --- headers ------------------------------------------------------------------------------------


def _header(cards: Iterator[Card]) -> fits.Header:
    header = fits.Header()
    for keyword, value, comment in cards:
        header.append((keyword, value, comment), end=True)
    return header


def _primary(shot: Shot) -> Iterator[Card]:
    yield "ORIGIN", "Simulated Observatory", ""
    yield "TELESCOP", "2.5 m reflector", ""
    yield "INSTRUME", "four-chip mosaic", ""
    yield "DETECTOR", "mosaic", "all four chips"
    yield "NEXTEND", len(shot.camera.chips), "extensions"
    yield from exposure_cards(shot)
    yield "CCD-TEMP", round(shot.temperature, 3), "[degC] detectors"
    yield "CCDSUM", "1 1", "binning"
    yield from pointing(359.26, 56.71, shot)


def _extension(shot: Shot, number: int, chip: Chip) -> Iterator[Card]:
    geometry = shot.geometry
    tiles = Tiles(geometry.ny, geometry.nx, geometry.overscan)
    origin = number % 2 * (geometry.nx + _GAP), number // 2 * (geometry.ny + _GAP)
    yield "INHERIT", True, "the primary header holds here too"
    yield "BUNIT", "adu", "unit of the pixel values"
    yield "CCDSIZE", f"[1:{geometry.nx},1:{geometry.ny}]", "pixels of the chip"
    for i, amplifier in enumerate(chip.amplifiers):
        n = i + 1
        yield f"GAIN{n}", round(amplifier.gain, 6), f"[electron/adu] read from {_FIRST_READ[i]}"
        yield f"RDNOISE{n}", round(amplifier.rdnoise, 6), "[electron] read noise"
        yield f"SATURAT{n}", FULL_SCALE, "[adu] largest value"
        yield from tiles.sections(i, origin)

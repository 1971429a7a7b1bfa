"""A simulated night: raw frames of one camera in a folder, its config and its truth beside them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from daskcal.errors import ArgumentError, OutputError, UnfitOutputError, choose
from daskcal.simulate.cameras import CAMERAS, Camera, Geometry
from daskcal.simulate.config import config_text
from daskcal.simulate.detector import CR, FULL_SCALE, SATURATED, Readout, make_detector, row_drift
from daskcal.simulate.exposure import expected_light
from daskcal.simulate.faults import Fault, chosen_faults
from daskcal.simulate.headers import Shot, make_header
from daskcal.simulate.mosaic import make_mosaic
from daskcal.simulate.sky import Stars, cosmic_count, make_cosmics, make_stars
from daskcal.simulate.truth import (
    FACTS,
    TrueFrame,
    simulated_files,
    write_detector,
    write_facts,
    write_frame,
)
from daskcal.strict import strict_keywords

SMALLEST = 16
_DETECTOR, _FRAME, _STARS = 0, 1, 2  # which family of random streams a spawn key belongs to


@dataclass(frozen=True, slots=True)
class SimulatedNight:
    """Where a simulated night lies.

    Attributes
    ----------
    folder : Path
        Folder of the raw frames.
    config : Path
        Config with which ``reduce`` treats them.
    truth : Path
        Folder that `load_truth` reads.
    files : tuple of Path
        The raw frames, in the order in which the camera's plan names them.
    """

    folder: Path
    config: Path
    truth: Path
    files: tuple[Path, ...]


@strict_keywords
def simulate_night(
    out: str | Path,
    camera: str = "generic",
    *,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    sky: float | None = None,
    gain: float | None = None,
    rdnoise: float | None = None,
    n_bias: int | None = None,
    n_dark: int | None = None,
    n_flat: int | None = None,
    n_science: int | None = None,
    n_cosmics: int | None = None,
    days: int = 0,
    faults: Mapping[str, str | Sequence[str]] | None = None,
    overwrite: bool = False,
) -> SimulatedNight:
    """Make a night of raw frames whose truth is known.

    The same arguments give the same bytes, and each frame has its own random numbers: it does not
    change when others are added or left out.

    Parameters
    ----------
    out : str or Path
        Folder to make: ``raw/`` (frames), ``truth/`` (see `Truth`) and ``<camera>.toml``.
    camera : str
        ``generic``, ``lfc``, ``aspen-cg16m``, or ``mosaic``: four chips in files of four
        extensions, each read through four amplifiers.
    size : (int, int), optional
        Rows and columns of the kept area; the camera's own by default. Prescan and overscan
        columns come on top; the overscan rows of ``lfc`` are part of it. Of a mosaic it is that of
        each chip, and even.
    seed : int
        Chooses the night: detector, stars and noise.
    sky : float, optional
        Sky in every science frame, electron per pixel before the sensitivity.
    gain, rdnoise : float, optional
        In electron/adu and electron; the camera's own by default. Levels of bias and flats are in
        adu and do not change with them. Those of a mosaic's amplifiers change in proportion.
    n_bias, n_dark, n_flat, n_science : int, optional
        Numbers of frames: of biases, of darks of each exposure, of flats of each filter, of
        science frames of each filter and exposure.
    n_cosmics : int, optional
        Cosmic rays in every dark and science frame; by default in proportion to area and exposure.
    days : int
        How many nights later it is than the camera's own: another night of the same detector.
    faults : mapping of str to str or sequence of str, optional
        What is wrong with which frames: a word of `FAULTS` to globs of file names without suffix,
        as in ``{"light-leak": "n0004", "cloud": "n030[2-5]"}``. Not for a mosaic.
    overwrite : bool
        Replace an earlier simulated night in `out`. Other files there are never touched.

    Raises
    ------
    ArgumentError
        A value that cannot be used.
    OutputError
        `out` cannot be written, or holds files already.

    Examples
    --------
    >>> night = daskcal.simulate_night("night", "lfc", size=(200, 300), n_bias=3)
    >>> frames = daskcal.open_frames(night.folder, unit="adu")
    """
    model = CAMERAS[choose("camera", camera, CAMERAS)]
    geometry = model.geometry(_checked_size(size))
    if model.chips and (geometry.ny % 2 or geometry.nx % 2):
        raise ArgumentError(f"size={size!r} should be even: four amplifiers read a chip's quarters")
    counts = {"bias": n_bias, "dark": n_dark, "flat": n_flat, "science": n_science}
    _check_count("seed", seed)
    _check_count("n_cosmics", n_cosmics)
    _check_count("days", days)
    if faults and model.chips:
        raise ArgumentError(f"faults are planted in frames of one detector, not of {camera!r}")
    for kind, count in counts.items():
        _check_count(f"n_{kind}", count)
    _check_number("sky", sky, above=False)
    _check_number("rdnoise", rdnoise, above=False)
    _check_number("gain", gain, above=True)
    maker = Maker(
        camera=model,
        geometry=geometry,
        seed=seed,
        sky=sky,
        gain=model.gain if gain is None else float(gain),
        rdnoise=model.rdnoise if rdnoise is None else float(rdnoise),
        n_cosmics=n_cosmics,
        days=days,
    )
    shots = tuple(maker.plan(counts))
    if not shots:
        raise ArgumentError("all of n_bias, n_dark, n_flat and n_science are 0: nothing to make")
    maker = replace(maker, faults=chosen_faults(faults or {}, [shot.stem for shot in shots]))
    return _write_night(Path(out), maker, shots, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class Maker:
    """Everything that the frames of one night have in common."""

    camera: Camera
    geometry: Geometry
    seed: int
    sky: float | None
    gain: float
    rdnoise: float
    n_cosmics: int | None
    days: int = 0
    faults: Mapping[str, Fault] = field(default_factory=dict)

    def rng(self, *key: int) -> np.random.Generator:
        if self.days:  # the first night has the numbers that it always had
            key = (*key, self.days)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def plan(self, counts: Mapping[str, int | None]) -> Iterator[Shot]:
        """The frames to take, series by series."""
        taken: set[str] = set()
        reach = min(6.0, min(self.geometry.ny, self.geometry.nx) / 32)
        for position, series in enumerate(self.camera.series):
            asked = counts[series.kind]
            for index in range(series.count if asked is None else asked):
                number = series.number(index)
                while series.stem.format(n=number) in taken:
                    number += 1
                taken.add(series.stem.format(n=number))
                dy, dx = self.rng(_STARS, position, index).uniform(-reach, reach, 2)
                yield Shot(
                    self.camera, self.geometry, series, index, number,
                    self.gain, self.rdnoise, (float(dy), float(dx)), self.days,
                )  # fmt: skip

    def stars(self, rng: np.random.Generator) -> Stars:
        """A field; its brightest stars saturate within the shortest science exposure."""
        shortest = min(min(s.exptimes) for s in self.camera.series if s.kind == "science")
        return make_stars(self.geometry, FULL_SCALE * self.gain, shortest, rng)

    def sky_of(self, shot: Shot) -> float:
        """Electrons of sky per pixel of a science frame."""
        if shot.series.kind != "science":
            return 0.0
        return shot.series.level(shot.index) * shot.exptime if self.sky is None else float(self.sky)

    def cosmics_of(self, shot: Shot) -> int:
        if shot.series.kind not in ("dark", "science"):
            return 0
        if self.n_cosmics is None:
            return cosmic_count(self.geometry, shot.exptime)
        return self.n_cosmics


def _write_night(
    out: Path, maker: Maker, shots: tuple[Shot, ...], *, overwrite: bool
) -> SimulatedNight:
    """Make the night in a hidden folder within `out`; final names appear when it is complete."""
    config = out / f"{maker.camera.name}.toml"
    old = _occupied(out, overwrite=overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".simulating-", dir=out))
        try:
            make = make_mosaic if maker.camera.chips else _make_frames
            make(work, maker, shots)
            text = config_text(maker.camera, maker.geometry, maker.gain, maker.rdnoise)
            (work / config.name).write_text(text, encoding="utf-8")
            for path in old:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for name in ("raw", "truth", config.name):
                (work / name).rename(out / name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{out}: the simulated night cannot be written: {error}") from error
    raw = out / "raw"
    named = [shot.stem + maker.camera.suffix for shot in shots]
    files = (*named, *sorted(simulated_files(out)[1].difference(named)))  # copies come last
    return SimulatedNight(raw, config, out / "truth", tuple(raw / name for name in files))


def _occupied(out: Path, *, overwrite: bool) -> list[Path]:
    """What of an earlier simulated night in `out` is to be replaced; refuses anything else."""
    try:
        if not out.exists() or not any(out.iterdir()):
            return []
    except NotADirectoryError:
        raise UnfitOutputError(f"{out} is a file; give a folder for the night") from None
    except OSError as error:
        raise OutputError(f"{out}: cannot be read: {error.strerror}") from None
    simulated = (out / "truth" / FACTS).is_file()
    if not overwrite:
        what = "holds a simulated night" if simulated else "is not empty"
        more = ", or overwrite it (overwrite=True, --overwrite)" if simulated else ""
        raise UnfitOutputError(f"{out} {what}; give a new or empty folder{more}")
    if not simulated:
        raise UnfitOutputError(
            f"{out} holds files that were not simulated, which are never overwritten; "
            "give another folder"
        )
    camera, known = simulated_files(out)
    foreign = sorted({p.name for p in (out / "raw").glob("*")} - known)
    if foreign:
        raise UnfitOutputError(
            f"{out / 'raw'} holds {foreign[0]}, which was not simulated; "
            "move it away, or give another folder"
        )
    places = (out / "raw", out / "truth", out / f"{camera}.toml")
    return [place for place in places if place.exists()]


def _make_frames(work: Path, maker: Maker, shots: tuple[Shot, ...]) -> None:
    raw, frames = work / "raw", work / "truth" / "frames"
    raw.mkdir()
    frames.mkdir(parents=True)
    detector = make_detector(maker.camera, maker.geometry, maker.seed)
    write_detector(frames.parent, detector)
    readout = Readout(maker.camera, maker.geometry, detector, maker.gain, maker.rdnoise)
    stars = maker.stars(maker.rng(_STARS))
    # random numbers are drawn without Python's lock, so threads share the work
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        taken = pool.map(lambda shot: _take(shot, maker, readout, stars, raw, frames), shots)
        files = [file for of_shot in taken for file in of_shot]
    facts = {
        "camera": maker.camera.name,
        "seed": maker.seed,
        "size": [maker.geometry.ny, maker.geometry.nx],
        "gain": maker.gain,
        "rdnoise": maker.rdnoise,
    }
    write_facts(frames.parent, facts, files)


def _take(
    shot: Shot, maker: Maker, readout: Readout, stars: Stars, raw: Path, truth: Path
) -> list[TrueFrame]:
    """Take one frame: write it and its truth; a faulty one may be there twice."""
    series, detector, geometry = shot.series, readout.detector, maker.geometry
    rng = maker.rng(_FRAME, maker.camera.series.index(series), shot.index)
    drift = row_drift(maker.camera, geometry.ny, rng)
    n_cosmics = maker.cosmics_of(shot)
    cosmics = make_cosmics(geometry, n_cosmics, rng)
    sky = maker.sky_of(shot)
    flat_level = series.level(shot.index) if series.kind == "flat" else 0.0
    image, expected = expected_light(shot, detector, stars, sky, flat_level * maker.gain)
    fault = maker.faults.get(shot.stem, Fault(""))
    expected = fault.light(expected, detector.dark, shot)
    values = readout.read(expected, cosmics, drift, rng)
    written = fault.write(raw / (shot.stem + maker.camera.suffix), values, make_header(shot))
    if series.kind in ("dark", "science"):
        mask = detector.defects.copy()
        mask[values[:, geometry.kept_columns] == FULL_SCALE] |= SATURATED
        if cosmics is not None:
            mask[cosmics > 0] |= CR
        if image is not None:
            image[geometry.ny - geometry.top :] = np.nan
        write_frame(truth, shot.stem, image, mask)
    facts = TrueFrame(
        file="",
        kind=series.kind,
        filter=series.filter,
        exptime=shot.exptime,
        darktime=shot.darktime,
        sky=sky,
        flat_level=flat_level,
        n_cosmics=n_cosmics,
        fault=fault.kind,
    )
    return [replace(facts, file=path.name) for path in written]


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        ny, nx = (_whole(value) for value in size)
    except (TypeError, ValueError):
        ny = nx = None
    if ny is None or nx is None or min(ny, nx) < SMALLEST:
        raise ArgumentError(
            f"size={size!r} must be two integers, rows and columns, of at least {SMALLEST} each"
        )
    return ny, nx


def _whole(value: object) -> int | None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return int(value) if whole else None  # type: ignore[call-overload]


def _check_count(name: str, value: object) -> None:
    if value is None:
        return
    number = _whole(value)
    if number is None or number < 0:
        raise ArgumentError(f"{name}={value!r} must be an integer of at least 0")


def _check_number(name: str, value: float | None, *, above: bool) -> None:
    if value is None:
        return
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (above and number == 0):
        limit = "above 0" if above else "of at least 0"
        raise ArgumentError(f"{name}={value!r} must be a finite number {limit}")

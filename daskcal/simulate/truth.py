"""What a simulated night really holds: written beside the raw frames, and read back by tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from daskcal.errors import ArgumentError, choose, nearest
from daskcal.simulate.cameras import Amplifier
from daskcal.simulate.detector import BAD, CR, HOT, LOW_FLAT, SATURATED, Detector

FACTS = "truth.json"
PLANES = {"bad": BAD, "hot": HOT, "saturated": SATURATED, "cosmic_ray": CR, "low_flat": LOW_FLAT}
STAR_FREE = 1.0  # electron: pixels with less light of stars than this count as sky


@dataclass(frozen=True, slots=True)
class TrueFrame:
    """The facts of one raw frame.

    Attributes
    ----------
    file : str
        Name of the raw file.
    kind, filter : str
        ``bias``, ``dark``, ``flat`` or ``science``; the filter of its header.
    exptime, darktime : float
        Seconds.
    sky : float
        Science: electrons per pixel before the sensitivity; 0 for others.
    flat_level : float
        Flats: mean signal above the bias, adu; 0 for others.
    n_cosmics : int
        Cosmic rays planted.
    detector : str
        The chip of a mosaic; "" for others.
    fault : str
        What is wrong with it; "" for nothing.
    """

    file: str
    kind: str
    filter: str
    exptime: float
    darktime: float
    sky: float
    flat_level: float
    n_cosmics: int
    detector: str = ""
    fault: str = ""

    @property
    def stem(self) -> str:
        """Name without suffix: that of the reduced science frame."""
        stem = Path(self.file).stem
        return f"{stem}_{self.detector}" if self.detector else stem


@dataclass(frozen=True, slots=True)
class Truth:
    """A simulated night's truth. All images cover the kept area, ``(ny, nx) = size``.

    The sensitivity of each filter has mean 1 over the pixels without a defect (``defects() == 0``:
    not dead, not hot, not in the overscan rows across the top), and `image` is what a pixel of
    sensitivity 1 collects. So ``raw = bias + drift + (image·sensitivity + dark·darktime)/gain`` on
    average, and a perfect reduction, whose flat is normalised over the same pixels, gives `image`
    in electron and ``image/gain`` in adu.

    Of a mosaic it is the truth of one chip. Its `throughput` is in `image` and not in the
    sensitivity, `gain` and `rdnoise` are the means of its amplifiers', and `bias` has their
    structure alone, about the camera's level.
    """

    folder: Path
    camera: str
    seed: int
    size: tuple[int, int]
    gain: float
    rdnoise: float
    frames: tuple[TrueFrame, ...]
    detector: str = ""
    throughput: float = 1.0
    amplifiers: tuple[Amplifier, ...] = ()
    crosstalk: tuple[tuple[float, ...], ...] = ()

    def bias(self) -> np.ndarray:
        """Level and structure of the bias, adu, float32; without the drift of single frames."""
        return _read(self.folder / "bias.fits")

    def dark(self) -> np.ndarray:
        """Dark current, electron/s, float32."""
        return _read(self.folder / "dark.fits")

    def defects(self) -> np.ndarray:
        """Bit planes that hold for all frames, uint16: bad 1 (dead), hot 2, low_flat 64."""
        return _read(self.folder / "defects.fits")

    def flat(self, filter: str) -> np.ndarray:
        """Sensitivity in `filter`, float32; 0 at dead pixels and in the rows across the top."""
        return _read(self.folder / flat_name(filter))

    def frame(self, name: str | Path) -> TrueFrame:
        """The facts of a frame, by the name of its raw file or of its product, or its stem."""
        wanted = Path(name).name
        for frame in self.frames:
            if wanted in (frame.file, frame.stem) or Path(wanted).stem == frame.stem:
                return frame
        hint = nearest(wanted, [f.file for f in self.frames])
        raise ArgumentError(f"{self.folder}: no simulated frame is called {wanted!r}; {hint}")

    def image(self, name: str | Path) -> np.ndarray:
        """Electrons of sky and stars of a science frame, float32; NaN in rows across the top."""
        return _read(self._science(name))

    def mask(self, name: str | Path) -> np.ndarray:
        """Bit planes of a frame, uint16: the defects, saturated 4, cosmic_ray 32."""
        stem = self.frame(name).stem
        return _read(self.folder / "frames" / f"{stem}.fits", "MASK")

    def sky_pixels(self, name: str | Path) -> np.ndarray:
        """Where a science frame shows sky alone: mask 0 and less than 1 electron of stars, bool."""
        stars = self.image(name) - np.float32(self.frame(name).sky)
        return np.asarray((self.mask(name) == 0) & (stars < STAR_FREE))

    def _science(self, name: str | Path) -> Path:
        frame = self.frame(name)
        if frame.kind != "science":
            raise ArgumentError(
                f"{frame.file} is a {frame.kind} frame; only science frames have a true image"
            )
        return self.folder / "frames" / f"{frame.stem}.fits"


def load_truth(out: str | Path, detector: str | None = None) -> Truth:
    """The truth of the night that `simulate_night` made in `out`; of a mosaic, that of a detector.

    Raises
    ------
    ArgumentError
        There is none.
    """
    folder, facts = _facts(out)
    if "detectors" in facts:
        folder, facts = _facts(folder / choose("detector", detector, facts["detectors"]))
    return Truth(
        folder=folder,
        camera=facts["camera"],
        seed=facts["seed"],
        size=tuple(facts["size"]),
        gain=facts["gain"],
        rdnoise=facts["rdnoise"],
        frames=tuple(TrueFrame(**one) for one in facts["frames"]),
        detector=facts.get("detector", ""),
        throughput=facts.get("throughput", 1.0),
        amplifiers=tuple(Amplifier(**one) for one in facts.get("amplifiers", ())),
        crosstalk=tuple(map(tuple, facts.get("crosstalk", ()))),
    )


def simulated_files(out: str | Path) -> tuple[str, set[str]]:
    """The camera of the night that was simulated in `out`, and the names of its raw files."""
    facts = _facts(out)[1]
    return facts["camera"], {frame["file"] for frame in facts["frames"]}


def _facts(out: str | Path) -> tuple[Path, dict[str, Any]]:
    folder = next((f for f in (Path(out) / "truth", Path(out)) if (f / FACTS).is_file()), None)
    if folder is None:
        raise ArgumentError(f"{out}: no simulated night is here (no truth/{FACTS})")
    return folder, json.loads((folder / FACTS).read_text(encoding="utf-8"))


def flat_name(filter: str) -> str:
    """File of a filter's sensitivity; the cameras' filters differ in their letters alone."""
    return f"flat_{''.join(c for c in filter if c.isalnum())}.fits"


def write_facts(folder: Path, facts: Mapping[str, Any], frames: list[TrueFrame]) -> None:
    """Write what `load_truth` needs to know, and the names of the bit planes."""
    text = {**facts, "planes": PLANES, "frames": [asdict(frame) for frame in frames]}
    (folder / FACTS).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def write_detector(folder: Path, detector: Detector) -> None:
    """Write the maps of a detector."""
    _write(folder / "bias.fits", detector.bias, "adu")
    _write(folder / "dark.fits", detector.dark, "electron / s")
    _write(folder / "defects.fits", detector.defects, "")
    for name, sensitivity in detector.sensitivity.items():
        _write(folder / flat_name(name), sensitivity, "")


def write_frame(folder: Path, stem: str, image: np.ndarray | None, mask: np.ndarray) -> None:
    """Write the true image (electron) and mask of one frame."""
    primary = fits.PrimaryHDU(image)
    if image is not None:
        primary.header["BUNIT"] = "electron"
    hdus = fits.HDUList([primary, fits.ImageHDU(mask, name="MASK")])
    hdus.writeto(folder / f"{stem}.fits")


def _write(path: Path, image: np.ndarray, unit: str) -> None:
    hdu = fits.PrimaryHDU(image)
    if unit:
        hdu.header["BUNIT"] = unit
    hdu.writeto(path)


def _read(path: Path, hdu: int | str = 0) -> np.ndarray:
    with fits.open(path, memmap=False) as hdus:
        data = hdus[hdu].data
    return np.asarray(data, data.dtype.newbyteorder("="))

"""What can go wrong with frames of a simulated night, planted where a test wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from astropy.io import fits

from daskcal.errors import ArgumentError, choose
from daskcal.simulate.headers import Shot

FAULTS = {
    "warm": "eight times the dark current, and a CCD-TEMP 18 K higher",
    "warm-untold": "eight times the dark current, and the usual CCD-TEMP",
    "light-leak": "light that falls in at one edge, 200 electron fading to 0",
    "cloud": "a sequence of flats that fades, each by 0.4 of the one before, with patches of 30 %",
    "no-light": "no light at all",
    "saturated": "light that fills every pixel",
    "filter": "a FILTER that no other frame carries",
    "undefined": "every pixel NaN",
    "bit": "one bit of the data turned after DATASUM was written",
    "truncated": "a file that ends after 60 % of its bytes",
    "duplicate": "a second file of the same bytes",
}

WARMER, DOUBLES = 18.0, 6.0  # K: dark current doubles every 6 K
LEAK = 200.0  # electron
FADES, PATCHES = 0.4, 0.3
FLOOD = 1e7  # electron
KEPT = 0.6
UNKNOWN_FILTER = "Halpha-7"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one frame; `place` counts the frames of its kind, from 0."""

    kind: str
    place: int = 0

    def light(self, expected: np.ndarray | None, dark: np.ndarray, shot: Shot) -> np.ndarray | None:
        """Mean electrons of all pixels (ny, nx) as the fault changes them; None is none at all.

        Parameters
        ----------
        expected : ndarray or None
            Light and dark current of the frame as it should be.
        dark : ndarray
            Dark current of the detector, electron/s.
        shot : Shot
            The frame.
        """
        shape = shot.geometry.ny, shot.geometry.nx
        across = np.linspace(1, 0, shape[1], dtype=np.float32)
        before = np.float32(0) if expected is None else expected
        own = dark * np.float32(shot.darktime)
        if self.kind in ("warm", "warm-untold"):
            return np.asarray(before + own * np.float32(2 ** (WARMER / DOUBLES) - 1))
        if self.kind == "light-leak":
            return np.asarray(before + np.broadcast_to(across * np.float32(LEAK), shape))
        if self.kind == "cloud":
            waves = np.sin(2 * np.pi * (2 * across + self.place / 3)).astype(np.float32)
            seen = np.float32(FADES ** (self.place + 1)) * (1 + np.float32(PATCHES) * waves)
            return np.asarray((before - own) * seen + own)
        if self.kind == "no-light":
            return np.asarray(own)
        if self.kind == "saturated":
            return np.full(shape, FLOOD, np.float32)
        return expected

    def write(self, path: Path, values: np.ndarray, header: fits.Header) -> tuple[Path, ...]:
        """Write the raw frame, with what is wrong with its file; the files that it makes."""
        if self.kind == "warm" and "CCD-TEMP" in header:
            header["CCD-TEMP"] += WARMER
        if self.kind == "filter":
            header["FILTER"] = UNKNOWN_FILTER
        if self.kind == "undefined":
            values = np.full(values.shape, np.nan, np.float32)
        hdu = fits.PrimaryHDU(values, header)
        hdu.writeto(path, checksum=self.kind == "bit")
        if self.kind == "bit":
            _turn_a_bit(path)
        elif self.kind == "truncated":
            whole = path.read_bytes()
            path.write_bytes(whole[: int(len(whole) * KEPT)])
        elif self.kind == "duplicate":
            copy = path.with_name(f"{path.stem}_copy{path.suffix}")
            copy.write_bytes(path.read_bytes())
            return path, copy
        return (path,)


def _turn_a_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        place = hdus[0].fileinfo()
    whole[place["datLoc"] + 1000] ^= 1
    path.write_bytes(whole)


def chosen_faults(
    faults: Mapping[str, str | Sequence[str]], stems: Sequence[str]
) -> dict[str, Fault]:
    """The fault of each frame that has one, by the stem of its file.

    Parameters
    ----------
    faults : mapping of str to str or sequence of str
        Of `FAULTS` to globs of stems.
    stems : sequence of str
        Of the night's files, in the order in which they were taken.

    Raises
    ------
    ArgumentError
        A fault that is none, a glob that no frame fits, a frame with two faults.
    """
    found: dict[str, Fault] = {}
    for kind, globs in faults.items():
        choose("faults", kind, FAULTS)
        place = 0
        for glob in [globs] if isinstance(globs, str) else globs:
            fitting = [stem for stem in stems if fnmatchcase(stem, glob)]
            if not fitting:
                raise ArgumentError(
                    f"faults: no frame is called {glob!r}; the first is {stems[0]!r}, the last "
                    f"{stems[-1]!r}"
                )
            for stem in fitting:
                if stem in found:
                    raise ArgumentError(
                        f"faults: {stem} has {found[stem].kind!r} already, and not {kind!r} too"
                    )
                found[stem] = Fault(kind, place)
                place += 1
    return found

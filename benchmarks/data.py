"""The frames that are combined and calibrated: made once for a row, of known truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

LEVEL = 1000.0  # adu, of bias and overscan
READ_NOISE = 8.0  # adu
SIGNAL = 5000.0  # adu, of calibrated frames
OVERSCAN = 64  # columns
_DARK_RATE = 0.5  # adu/s
_EXPOSURE, _DARK_EXPOSURE = 300.0, 200.0  # s; the ratio is what a dark is scaled by
_FLAT_LEVEL = 20_000.0  # adu
_BLOCK = 2880  # bytes of FITS
_CALIBRATIONS = 3  # frames of each kind behind a master
_CARDS = {"BUNIT": "adu", "GAIN": 1.0, "RDNOISE": READ_NOISE}


def biases(folder: str, n: int, size: int, dtype: str = "uint16", compressed: bool = False) -> None:
    """Frames of noise about a level, one pixel in a thousand far out; float ones between 0 and 1,
    which Siril needs.
    """
    for i in range(n):
        rng = np.random.default_rng((size, i))
        image = _noise(rng, (size, size)) + np.float32(LEVEL)
        image.ravel()[rng.integers(0, image.size, image.size // 1000)] += 5000
        cards = _CARDS | {"IMAGETYP": "bias", "EXPTIME": 0.0}
        _write(Path(folder) / f"b{i:05d}.fits", _stored(image, dtype), cards, compressed)


def repeated(folder: str, source: str, n: int) -> None:
    """`n` names for the files of another folder, by hard links."""
    files = sorted(Path(source).iterdir())
    for i in range(n):
        os.link(files[i % len(files)], Path(folder) / f"r{i:05d}.fits")


def exposures(folder: str, n: int, size: int, kind: str = "science") -> None:
    """Raw frames with overscan, bias pattern, dark current and flat field; of `kind` science,
    bias, dark (of the science frames' exposure: dark300, or another: dark200) or flat.
    """
    sky = {"science": SIGNAL, "flat": _FLAT_LEVEL}.get(kind, 0.0)
    dark_times = {"science": _EXPOSURE, "dark300": _EXPOSURE, "dark200": _DARK_EXPOSURE}
    dark_time = dark_times.get(kind, 1.0 if kind == "flat" else 0.0)
    cards = _CARDS | {"IMAGETYP": kind[:4] if kind.startswith("dark") else kind}
    cards |= {"EXPTIME": dark_time, "FILTER": "V"}
    pattern, rate, flat = _detector(size)
    for i in range(n):
        rng = np.random.default_rng((size, i, sum(map(ord, kind))))
        light = pattern + rate * np.float32(dark_time)
        if sky:
            light += flat * np.float32(sky)
            light += _noise(rng, light.shape, np.sqrt(sky))
        raw = np.zeros((size, size + OVERSCAN), np.float32)
        raw[:, :size] = light
        raw += np.float32(LEVEL + i) + _noise(rng, raw.shape)
        _write(Path(folder) / f"{kind}{i:05d}.fits", _stored(raw, "uint16"), cards, False)


def night(folder: str, size: int, science: int) -> dict[str, str]:
    """A night's raw frames and its config: two calibration frames to five of science."""
    raw, config = Path(folder) / "raw", Path(folder) / "config.toml"
    raw.mkdir()
    some = max(_CALIBRATIONS, 2 * science // 15)
    for kind, n in (("bias", some), ("dark300", some), ("flat", some), ("science", science)):
        exposures(str(raw), n, size, kind)
    text = [f'[{step}]\nsection = "{section}"\n' for step, section in sections(size).items()]
    config.write_text("\n".join(text))
    return {"folder": str(raw), "config": str(config)}


def sections(size: int) -> dict[str, str]:
    """Where the overscan and the image of `exposures` are, as daskcal takes it."""
    return {"overscan": f"[:, {size}:]", "trim": f"[:, :{size}]"}


def masters(folder: str, size: int, bias: bool) -> dict[str, dict[str, str]]:
    """Masters from frames of their own: for ``noise`` with variance and mask, ``plain`` without.

    With `bias`, a bias, a dark of another exposure and a flat, free of it; without, a dark of the
    science frames' exposure, which holds the bias pattern, and a flat.
    """
    import daskcal

    def master(kind: str, subtract: Mapping[str, object], **options: str) -> object:
        raw = Path(folder) / f"raw-{kind}"
        raw.mkdir()
        exposures(str(raw), _CALIBRATIONS, size, kind)
        frames = daskcal.calibrate(daskcal.open_frames(raw), **sections(size), **subtract)
        made = daskcal.combine(frames, reject="none", **options)
        for ending, planes in (("noise", ["image", "uncert", "mask"]), ("plain", ["image"])):
            daskcal.to_fits(made, f"{folder}/{kind}-{ending}.fits", planes=planes)
        for path in raw.iterdir():
            path.unlink()
        return daskcal.open_master(f"{folder}/{kind}-noise.fits")

    first = master("bias", {})
    dark = "dark200" if bias else "dark300"
    master(dark, {"bias": first} if bias else {})
    master("flat", {"bias": first}, scale="median")
    return {
        ending: {"bias": f"{folder}/bias-{ending}.fits", "dark": f"{folder}/{dark}-{ending}.fits",
                 "flat": f"{folder}/flat-{ending}.fits"}
        for ending in ("noise", "plain")
    }  # fmt: skip


def for_siril(folder: str, science: str, masters: dict[str, str], size: int) -> None:
    """What Siril has no step for is done beforehand: trimmed frames, and a dark with the bias level
    in units of 65535 adu, as it counts.
    """
    target = Path(folder)
    for i, path in enumerate(sorted(Path(science).iterdir()), start=1):
        _write(target / f"b_{i:05d}.fit", fits.getdata(path)[:, :size], _CARDS, False)
    dark = (fits.getdata(masters["dark"]) + LEVEL) / 65535
    flat = fits.getdata(masters["flat"]) * (0.5 / np.nanmean(fits.getdata(masters["flat"])))
    for name, image in (("dark", dark), ("flat", flat)):
        _write(target / f"{name}.fit", image.astype(np.float32), {}, False)


def headers(folder: str, n: int) -> None:
    """Files of a night of many filters: 80 cards, and the pixels a hole in the file."""
    size = {"NAXIS": 2, "NAXIS1": 4096, "NAXIS2": 4096, "BZERO": 32768, "BSCALE": 1}
    extra = {f"EXTRA{j:02d}": f"value {j}" for j in range(60)}
    common = _cards({"SIMPLE": True, "BITPIX": 16} | size | _CARDS | extra)
    pixels = -(-2 * 4096 * 4096 // _BLOCK) * _BLOCK
    for i in range(n):
        text = (common + _cards(_night_cards(i, n)) + "END").encode("ascii")
        text = text.ljust(-(-len(text) // _BLOCK) * _BLOCK)
        with (Path(folder) / f"n{i:06d}.fits").open("wb") as file:
            file.write(text)
            file.truncate(len(text) + pixels)


def _cards(values: Mapping[str, object]) -> str:
    """Header cards of fixed format."""
    said = []
    for key, value in values.items():
        word = {True: "T", False: "F"}[value] if isinstance(value, bool) else str(value)
        text = f"'{value:8}'" if isinstance(value, str) else f"{word:>20}"
        said.append(f"{key:8}= {text}".ljust(80))
    return "".join(said)


def _night_cards(i: int, n: int) -> dict[str, object]:
    """One frame in ten is a calibration."""
    kind, exposure, filter_ = "science", 60.0 * (1 + i % 3), "ugrizy"[i % 6]
    if i % 10 == 0:
        kind = ("bias", "dark", "flat")[i // 10 % 3]
        exposure = {"bias": 0.0, "dark": 60.0 * (1 + i // 30 % 3), "flat": 5.0}[kind]
        filter_ = "ugrizy"[i // 30 % 6]
    seconds = 36_000 * i // n
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return {"IMAGETYP": kind, "EXPTIME": exposure, "FILTER": filter_, "OBJECT": f"field {i % 40}",
            "DATE-OBS": f"2024-03-01T{clock}"}  # fmt: skip


def _detector(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias pattern (adu), dark rate (adu/s), flat field of mean 1: float32 (size, size)."""
    rng = np.random.default_rng(size)
    x = np.linspace(-1, 1, size, dtype=np.float32)
    vignetting = 1.1 - 0.15 * (x**2 + x[:, None] ** 2)
    flat = vignetting + _noise(rng, vignetting.shape, 0.01)
    pattern = np.broadcast_to(np.float32(5) * np.sin(np.float32(20) * x), flat.shape).copy()
    rate = np.abs(_noise(rng, flat.shape, 0.1)) + np.float32(_DARK_RATE)
    return pattern, rate, flat / flat.mean()


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float = 0) -> np.ndarray:
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= np.float32(sigma or READ_NOISE)
    return noise


def _stored(image: np.ndarray, dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return (image / 65536).astype(dtype, copy=False)
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


def _write(path: Path, image: np.ndarray, cards: dict[str, object], compressed: bool) -> None:
    if compressed:
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(image, compression_type="RICE_1")]
    else:
        hdus = [fits.PrimaryHDU(image)]
    hdus[-1].header.update(cards)
    fits.HDUList(hdus).writeto(path)

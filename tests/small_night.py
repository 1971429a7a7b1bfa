"""A night of tiny frames for tests of whole runs: quick to make, quick to reduce."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits

from daskcal.night.ledger import Ledger, as_json

SHAPE = (24, 32)
BIAS, DARK_RATE, GAIN, RDNOISE = 1000.0, 0.5, 1.5, 6.0


def header(imagetyp: str, exptime: float, minute: int = 0, **more: Any) -> fits.Header:
    """Cards of one raw frame; keywords of `more` are added, None leaves a card out."""
    cards: dict[str, Any] = {
        "IMAGETYP": imagetyp,
        "EXPTIME": exptime,
        "DATE-OBS": f"2024-03-01T{2 + minute // 60:02}:{minute % 60:02}:00.5",
        "BUNIT": "adu",
        "GAIN": GAIN,
        "RDNOISE": RDNOISE,
        "OBJECT": "M 67",
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": 16.5,
        "CRPIX2": 12.5,
        "CRVAL1": 132.8,
        "CRVAL2": 11.8,
        "CD1_1": -1e-4,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 1e-4,
    }
    cards |= {key.upper().replace("_", "-"): value for key, value in more.items()}
    made = fits.Header()
    for key, value in cards.items():
        if value is not None:
            made[key] = value
    made["COMMENT"] = "a remark of the observer"
    return made


def write(
    path: Path,
    imagetyp: str,
    exptime: float = 0.0,
    signal: float = 0.0,
    *,
    shape: tuple[int, int] = SHAPE,
    minute: int = 0,
    **cards: Any,
) -> Path:
    """Write one raw frame (uint16), its noise seeded by its name."""
    rng = np.random.default_rng(zlib.crc32(os.fsencode(path.name)))
    electrons = rng.poisson(np.full(shape, (signal + DARK_RATE * exptime) * GAIN))
    noise = rng.normal(0, RDNOISE / GAIN, shape)
    values = np.clip(BIAS + electrons / GAIN + noise, 0, 65535).round().astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.writeto(path, values, header(imagetyp, exptime, minute, **cards))
    return path


def make(
    raw: Path, *, bias: int = 4, dark: int = 3, flat: int = 3, science: int = 2, **cards: Any
) -> Path:
    """A night: biases, darks of 60 s, flats and science frames of 60 s in V and B."""
    raw.mkdir(parents=True, exist_ok=True)
    for i in range(bias):
        write(raw / f"bias_{i}.fits", "bias", minute=i, **cards)
    for i in range(dark):
        write(raw / f"dark_{i}.fits", "dark", 60.0, minute=20 + i, **cards)
    for j, name in enumerate("VB"):
        for i in range(flat):
            at = raw / f"flat_{name}_{i}.fits"
            write(at, "flat", 2.0, 20000.0 - 800 * i, minute=40 + 5 * j + i, filter=name, **cards)
        for i in range(science):
            at = raw / f"m67_{name}_{i}.fits"
            write(at, "object", 60.0, 300.0, minute=90 + 5 * j + i, filter=name, **cards)
    return raw


def files(folder: Path) -> list[str]:
    """Everything below a folder but folders, hidden files too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def temporaries(folder: Path) -> list[str]:
    """What a failure should not leave behind."""
    return [name for name in files(folder) if Path(name).name.startswith(".")]


def bits(out: Path) -> dict[str, str]:
    """SHA-256 of each product below an output folder; of a store, of all its files together."""
    found: dict[str, Any] = {}
    for name in files(out):
        product = name.split(".zarr/")[0] + (".zarr" if ".zarr/" in name else "")
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not hidden and product.startswith(("masters/", "science/", "calibrated/")):
            content = (out / name).read_bytes()
            inside = b"" if product == name else name.encode()
            found.setdefault(product, hashlib.sha256()).update(inside + content)
    return {name: digest.hexdigest() for name, digest in found.items()}


def timeless(ledger: Ledger) -> dict[str, Any]:
    """What a ledger says, but when, by which command, how long, and in which run."""
    record: dict[str, Any] = as_json(ledger, "ledger")
    for name in ("command", "started", "finished"):
        del record[name]
    for product in record["products"]:
        del product["seconds"], product["reused"]
    return record


def made(ledger: Ledger) -> list[str]:
    """Names of the products that the run of this ledger has made."""
    return [p.name for p in ledger.products if p.status == "made" and not p.reused]


def many_frames(count: int, step: np.timedelta64) -> xr.Dataset:
    """Tiny frames in memory, one each `step`, in twenty filters, their level rising."""
    dates = np.datetime64("2024-03-14T20:00", "us") + np.arange(count) * step
    filters = np.array([f"filter {i % 20} of a wheel of many" for i in range(count)], object)
    values = np.linspace(1000, 1100, count)[:, None, None] * np.ones((1, 4, 4))
    return xr.Dataset(
        {"image": (("frame", "y", "x"), values, {"units": "adu"})},
        {"filter": ("frame", filters), "date_obs": ("frame", dates)},
    )

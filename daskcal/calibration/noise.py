"""Gain and read noise from pairs of flats and biases: what a detector says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.robust import MAD_TO_SIGMA, clipped_fit
from daskcal.errors import ArgumentError, CalibrationError, GeometryError, UnitError
from daskcal.frames.amplifiers import DIM, amplifiers
from daskcal.frames.blocks import Band, Stack, pack, recover
from daskcal.frames.sections import Section
from daskcal.frames.steps import last_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

CLIP = 4.0  # σ: the noise of 1 pixel in 16,000 lies beyond, that of cosmic rays and stars much more
BLOCK_CLIP = 5.0  # σ of the blocks: one with a bright star or a bad column tells nothing
LIT = 0.1  # of the median signal: blocks with less (overscan, a shadow) show no photon noise

UNITS = {
    "gain": "electron/adu",
    "gain_error": "electron/adu",
    "rdnoise": "electron",
    "rdnoise_error": "electron",
    "rdnoise_adu": "adu",
    "rdnoise_adu_error": "adu",
}


@strict_keywords
def measure_noise(
    biases: xr.Dataset, flats: xr.Dataset | None = None, *, block: int = 64, clip: float = CLIP
) -> xr.Dataset:
    """Measure read noise and gain from pairs of biases and pairs of flats (photon transfer).

    With biases B and flats F of signals S, r = S₁/S₂, the difference D = F₁ − r·F₂ less the bias
    is free of the detector's pattern and of the lamp's level, and

    gain = (S₁ + r²·S₂) / (var(D) − (1 + r²)·var(B₁ − B₂)/2),

    which for r = 1 is the usual ratio of (F₁ + F₂ − B₁ − B₂) to var(F₁ − F₂) − var(B₁ − B₂)
    (Janesick 2001, Scientific Charge-Coupled Devices, chapter 2; IRAF's findgain). It is taken
    over blocks of the detector, each with its own r and a plane taken off D, so that the light may
    change its gradient from one flat to the next. Within a block values beyond `clip` σ are left
    out, and the variance is corrected for what a normal distribution has there. The uncertainties
    come from the scatter of the blocks.

    Parameters
    ----------
    biases : xarray.Dataset
        At least two bias frames in adu: the 1st and 2nd, the 3rd and 4th ... are pairs.
    flats : xarray.Dataset, optional
        Flats of the same window, in pairs alike; a pair may differ in level. Without them only the
        read noise in adu is measured. Biases and flats may be raw, or both without overscan, which
        takes out what the pixels of a row have in common, and adds the noise of its own level.
    block : int
        Rows and columns of a block, 8 or more.
    clip : float
        In σ, at least 2.

    Returns
    -------
    xarray.Dataset
        Lazily ``gain`` (electron/adu), ``rdnoise`` (electron), ``rdnoise_adu`` (adu), and the
        standard error of each (``gain_error`` ...); NaN where nothing can be said. The read noise
        is without the rounding of the converter (step²/12), which `create_variance` adds again.
        Along ``amplifier`` for a detector with several.

    Raises
    ------
    ArgumentError, UnitError, GeometryError, CalibrationError
        Fewer than two frames; frames that are not in adu, of different windows, or of which only
        one kind had the overscan subtracted; frames that were divided by a flat.

    Examples
    --------
    >>> found = daskcal.measure_noise(biases, flats).compute()
    >>> print(f"{found.gain:.3f} ± {found.gain_error:.3f}")
    1.403 ± 0.006
    """
    if not (isinstance(block, int) and block >= 8):
        raise ArgumentError(f"block={block!r} should be a whole number of rows, 8 or more")
    if not clip >= 2:
        raise ArgumentError(f"clip={clip} should be 2 or more, in σ")
    given = {"biases": biases} if flats is None else {"biases": biases, "flats": flats}
    stacks = {name: _checked(name, frames) for name, frames in given.items()}
    _require_alike(given, stacks)
    amps = amplifiers(biases)
    areas = tuple(amp.section for amp in amps) or (stacks["biases"].section,)
    quantum = float(biases["image"].attrs.get("quantum", 0.0))
    numbers = _measured(list(stacks.values()), block, clip, areas, quantum)
    names = list(UNITS) if flats is not None else ["rdnoise_adu", "rdnoise_adu_error"]
    out = xr.Dataset(coords={DIM: np.array([amp.name for amp in amps], object)} if amps else {})
    for i, (name, unit) in enumerate(UNITS.items()):
        if name in names:
            each = (DIM, numbers[i]) if amps else ((), numbers[i, 0])
            out[name] = (*each, {"units": unit})
    return out


def _checked(name: str, frames: xr.Dataset) -> Stack:
    """The stack behind frames of which pairs can be made."""
    stack = recover(frames)
    unit = require_unit(frames, "measure_noise")
    if unit != "adu":
        raise UnitError(f"measure_noise takes frames in adu, and the {name} are in {unit}")
    if stack.n_frames < 2:
        raise ArgumentError(f"measure_noise needs two {name} or more, found {stack.n_frames}")
    if last_step(frames, "flat_correct"):
        raise CalibrationError(f"measure_noise: the {name} were divided by a flat; take raw ones")
    return stack


def _require_alike(frames: dict[str, xr.Dataset], stacks: dict[str, Stack]) -> None:
    windows = {str(stack.section) for stack in stacks.values()}
    if len(windows) > 1:
        raise GeometryError(
            f"measure_noise: biases and flats cover different pixels, {' and '.join(windows)}"
        )
    done = {last_step(each, "subtract_overscan") is not None for each in frames.values()}
    if len(done) > 1:
        raise CalibrationError(
            "measure_noise: biases or flats, and not both, had the overscan subtracted; treat "
            "both alike"
        )


# --- the graph --------------------------------------------------------------------------------


def _measured(
    stacks: Sequence[Stack], block: int, clip: float, areas: tuple[Section, ...], quantum: float
) -> da.Array:
    """The numbers of `UNITS` for each area, (numbers, areas), in one block, lazily."""
    bands = [x for stack in stacks for x in (pack(stack, frame=-1, rows=block), "fyx")]
    blocks = da.blockwise(
        _band_blocks, "fyx", *bands, block=block, clip=clip, areas=areas,
        adjust_chunks={"f": 1}, dtype=object, meta=np.empty((0, 0, 0), object),
        align_arrays=False,
    )  # fmt: skip
    return da.blockwise(
        _numbers, "ka", blocks, "fyx", new_axes={"k": len(UNITS), "a": len(areas)},
        areas=len(areas), quantum=quantum, dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip


class Blocks(NamedTuple):
    """What the blocks of a band say: a line for each pair and block.

    `read` has the columns area, degrees of freedom, variance of a bias; `light` has area, degrees
    of freedom, signal S₁ + r²·S₂, variance of D, and what that holds of the variance of a bias.
    """

    read: np.ndarray
    light: np.ndarray


def _band_blocks(
    biases: Band, flats: Band | None = None, *, block: int, clip: float, areas: tuple[Section, ...]
) -> Blocks:
    """The blocks of one band of rows."""
    bias, lit = biases.defined(), None if flats is None else flats.defined()
    read, light = [], []
    for area, rows, columns in _boxes(biases.section, areas, block):
        dark = bias[:, rows, columns]
        plane = _plane(dark.shape[1:])
        dark = dark.reshape(len(bias), -1)
        read += [[area, *one] for one in _bias_pairs(dark, plane, clip)]
        if lit is not None:
            box = lit[:, rows, columns].reshape(len(lit), -1)
            light += [[area, *one] for one in _flat_pairs(box, dark, plane, clip)]
    return Blocks(np.array(read).reshape(-1, 3), np.array(light).reshape(-1, 5))


def _boxes(
    band: Section, areas: tuple[Section, ...], block: int
) -> Iterator[tuple[int, slice, slice]]:
    """The blocks of each area in a band of rows: number of the area, rows and columns."""
    for i, area in enumerate(areas):
        top, bottom = max(area.y0, band.y0), min(area.y1, band.y1)
        if bottom <= top:
            continue
        for left in range(area.x0, area.x1, block):
            box = Section(top, bottom, left, min(left + block, area.x1))
            yield i, *box.within(band)


def _plane(shape: tuple[int, int]) -> np.ndarray:
    """1, row and column of each pixel of a block, about −1 to 1, (3, pixels)."""
    y, x = (2 * np.indices(shape).reshape(2, -1).T / shape - 1).T
    return np.stack([np.ones(y.size), y, x])


# --- pairs ------------------------------------------------------------------------------------


def _bias_pairs(bias: np.ndarray, plane: np.ndarray, clip: float) -> Iterator[tuple[float, float]]:
    """Degrees of freedom and variance of one frame of each pair (frames, pixels)."""
    for one, other in zip(bias[0::2], bias[1::2], strict=False):
        scatter = clipped_fit(one - other, plane, clip)
        if _enough(scatter.kept):
            yield scatter.freedom, scatter.variance / 2


def _flat_pairs(
    flat: np.ndarray, bias: np.ndarray, plane: np.ndarray, clip: float
) -> Iterator[tuple[float, ...]]:
    """Degrees of freedom, S₁ + r²·S₂, var(D), and D's share of a bias's variance, of each pair."""
    level = bias.mean(axis=0)
    for one, other in zip(flat[0::2], flat[1::2], strict=False):
        first, second = one - level, other - level
        good = np.isfinite(first - second)
        if not _enough(good) or not np.median(second[good]) > 0:
            continue
        ratio = np.median(first[good]) / np.median(second[good])
        scatter = clipped_fit(first - ratio * second, plane, clip)
        share = 1 + ratio**2 + (1 - ratio) ** 2 / len(bias)
        # the variance of F₁ is S₁/gain, that of r·F₂ is r²·S₂/gain = r·S₁/gain
        signal = first[scatter.kept].mean() + ratio**2 * second[scatter.kept].mean()
        yield scatter.freedom, signal, scatter.variance, share


def _enough(kept: np.ndarray) -> bool:
    """Whether the pixels that are left are most of a block."""
    return bool(kept.sum() > kept.size / 2)


# --- all blocks -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    """A number and its standard error."""

    value: float
    error: float


def _numbers(bands: list, *, areas: int, quantum: float) -> np.ndarray:
    """The numbers of `UNITS` for each area, of the blocks of all bands."""
    blocks = [row[0] for row in bands[0]]
    read = np.concatenate([each.read for each in blocks])
    light = np.concatenate([each.light for each in blocks])
    return np.array(
        [_of_area(read[read[:, 0] == i], light[light[:, 0] == i], quantum) for i in range(areas)]
    ).T


def _of_area(read: np.ndarray, light: np.ndarray, quantum: float) -> list[float]:
    variance = _ratio(read[:, 1] * read[:, 2], read[:, 1], read[:, 2])
    noise = _root(_Value(variance.value - quantum**2 / 12, variance.error))
    signal = light[:, 2]
    light = light[signal > LIT * np.median(signal)] if signal.size else light
    weight, share = light[:, 1], light[:, 4]
    excess = weight * (light[:, 3] - share * variance.value)
    gain = _ratio(weight * light[:, 2], excess, light[:, 3] / light[:, 2])
    if gain.value > 0:  # all blocks have the same error from the read noise
        common = gain.value * (weight * share).sum() * variance.error / excess.sum()
        gain = _Value(gain.value, float(np.hypot(gain.error, common)))
    electrons = noise.value * gain.value
    parts = electrons * gain.error / gain.value, gain.value * noise.error
    return [
        gain.value, gain.error, electrons, float(np.hypot(*parts)), noise.value, noise.error,
    ]  # fmt: skip


def _ratio(above: np.ndarray, below: np.ndarray, judged: np.ndarray) -> _Value:
    """Σ above / Σ below of the blocks whose `judged` value agrees with that of the others, and its
    error from their scatter.
    """
    if judged.size:
        offset = np.abs(judged - np.median(judged))
        agree = offset <= BLOCK_CLIP * MAD_TO_SIGMA * np.median(offset)
        above, below = above[agree], below[agree]
    if not below.sum() > 0:
        return _Value(np.nan, np.nan)
    n, value = below.size, float(above.sum() / below.sum())
    if n == 1:
        return _Value(value, np.nan)
    scatter = np.sqrt(((above - value * below) ** 2).sum() * n / (n - 1))
    return _Value(value, float(scatter / below.sum()))


def _root(square: _Value) -> _Value:
    """The square root, 0 of what is negative by chance."""
    if not square.value > 0:
        return _Value(0.0 if square.value <= 0 else np.nan, np.nan)
    root = float(np.sqrt(square.value))
    return _Value(root, square.error / (2 * root))

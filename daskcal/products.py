"""Frames and masters as FITS products, and back."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, OutputError, choose
from daskcal.fits.cards import CARD, make_card
from daskcal.fits.header import CardComments, Value, parse
from daskcal.fits.keywords import DEFAULT_KEYWORDS, FrameValues, normalise
from daskcal.fits.layout import Plane, Written
from daskcal.fits.product_header import PREFIX, Fact, history_cards, product_cards
from daskcal.fits.urls import is_url, real
from daskcal.fits.write import fits_sink
from daskcal.frame_files import WAITING, FrameFiles, deviation, given_up, room, threads_compute
from daskcal.frames.blocks import blocks, recover, require_frames
from daskcal.frames.detector import place, window_record
from daskcal.frames.detector_names import not_a_device, safe_name
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.master import UNSTABLE, open_master
from daskcal.frames.memory import threads
from daskcal.frames.steps import spelled_out
from daskcal.provenance import KEY, Origin, origins_of
from daskcal.strict import strict_keywords

PLANES = ("image", "uncert", "mask")
_BAND = 1 << 20  # pixels of a band of one frame
_AT_ONCE = 4  # frames in the making: enough to keep threads busy, few enough for memory
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")  # readers would take the file for such a one
_TOGETHER = 32  # frames in one graph, which reads its masters once

__all__ = ["open_master", "product_names", "to_fits"]


@strict_keywords
def to_fits(
    ds: xr.Dataset,
    path: str | PathLike[str],
    *,
    planes: Sequence[str] = PLANES,
    overwrite: bool = False,
    compress: str = "none",
    names: Sequence[str] | None = None,
    compute: bool = True,
    origin: Origin | Sequence[Origin] | None = None,
) -> list[Written] | list[da.Array]:
    """Write a master to a FITS file, or each of several frames to one of its own.

    Bands of rows are written as they are computed. Each file appears under its name when it is
    complete and checked; one that stood there survives any failure.

    Parameters
    ----------
    ds : xarray.Dataset
        A master (y, x), or frames (frame, y, x).
    path : str or path
        The file of a master; the folder of frames, made where it is missing. They may be URLs
        (``s3://bucket/reduced``): a file is then made in scratch space, and sent when it is whole.
    planes : sequence of {"image", "uncert", "mask"}
        What to write; ``image`` is always there. UNCERT is the standard deviation of ``variance``
        and ``variance_shared`` together, and is left out where there is no ``variance``.
    overwrite : bool
        Replace existing files.
    compress : {"none", "rice"}
        ``rice``: tile compression, floats quantised to 1/16 of the noise. FITS cannot compress
        a primary HDU, so the image is then in HDU 1: ``CCDData.read(path, hdu=1)``, since astropy
        (8.0) passes over compressed HDUs when it looks for the first image.
    names : sequence of str, optional
        File name of each frame without ``.fits``; by default that of its raw file
        (`product_names`).
    compute : bool
        False gives lazy arrays instead, one for each file; ``dask.compute(*arrays)`` writes them.
    origin : Origin or sequence of Origin, optional
        What the master, or each frame, was made of, for its header. A night's run knows it.

    Returns
    -------
    list of Written
        Path, size and DATASUMs of each file; `checksum` is its SHA-256, read when asked for.

    Raises
    ------
    OutputError
        A folder is missing or cannot be written, a file exists, the disk is too full; a file is
        one that the pixels are read from, which `overwrite` does not replace either.
    ArgumentError
        Unknown plane, no frame is selected, a name that promises a packed file, or not as many
        `names` as frames.

    Examples
    --------
    >>> written = daskcal.to_fits(science, "by-hand", planes=("image", "mask"))
    >>> (master,) = daskcal.to_fits(bias, "bias.fits")
    """
    for plane in planes:
        choose("planes", plane, PLANES)
    place = os.fspath(path) if is_url(path) else Path(path)
    if str(place).lower().endswith(_PACKED):
        raise ArgumentError(f"{place}: files are not packed as a whole; name it .fits")
    targets: Sequence[Path | str]
    options: dict[str, Any] = {"overwrite": overwrite, "compress": compress}
    if "frame" not in ds["image"].dims:
        targets = [place]
        _refuse_sources(ds, targets)
        (made_of,) = origins_of(origin, 1)
        jobs = [lambda: _master_planes(ds, planes, made_of)]
    else:
        require_frames(ds)
        targets = _frame_targets(ds, place, names)
        _refuse_sources(ds, targets)
        each = origins_of(origin, len(targets))
        if compute and threads_compute():
            at_once = threads() + WAITING
            files = frame_files(ds, planes, each, room(at_once), **options)
            if files is not None:
                return files.write_all(targets, at_once)
        jobs = [_frame_job(ds, i, planes, one) for i, one in enumerate(each)]
    sinks: list[da.Array] = []
    for target, job in zip(targets, jobs, strict=True):
        waits = compute and len(sinks) % _TOGETHER >= _AT_ONCE
        after = sinks[-_AT_ONCE] if waits else None
        sinks.append(fits_sink(target, job(), after=after, **options))
    return _computed(sinks, targets) if compute else sinks


def _computed(sinks: list[da.Array], targets: Sequence[Path | str]) -> list[Written]:
    written: list[Written] = []
    with given_up(targets):
        for at in range(0, len(sinks), _TOGETHER):
            written += dask.compute(*sinks[at : at + _TOGETHER])
    return written


def frame_files(
    ds: xr.Dataset,
    planes: Sequence[str],
    origins: Sequence[Origin | None],
    room: int,
    *,
    overwrite: bool,
    compress: str,
) -> FrameFiles | None:
    """Frames that can be written one by one; None where that takes a graph (`FrameFiles.of`)."""
    first = _frame_job(ds, 0, planes, origins[0])()

    def heads(i: int) -> list[Plane]:
        return [replace(first[0], cards=_frame_cards(ds, i, origins[i])), *first[1:]]

    stack = recover(needed_planes(ds, planes))
    return FrameFiles.of(stack, heads, room, overwrite=overwrite, compress=compress)


# --- names --------------------------------------------------------------------------------------

_RISKY = '<>:"/\\|?*'  # not in names on Windows; shells take some for their own
_ENDING = re.compile(r"\.(fits?|fts|fz|gz|bz2)$", re.IGNORECASE)


def product_names(
    paths: Sequence[str], hdus: Sequence[int], detectors: Sequence[str] | None = None
) -> list[str]:
    """Names of frames' products, without ``.fits``: the stems of the raw files, made distinct.

    Letters of any language and blanks stay; what some file system or shell cannot take becomes _.
    The name of its detector follows for a frame of a mosaic: `detectors` has it, and "" for other
    frames. Where names collide (also on file systems that take ``A`` for ``a``), the HDU, the
    ending or the folder is added, whichever tells the files apart, and else a number.
    """
    names = [_split(path)[0] for path in paths]
    if detectors is not None:
        pairs = zip(names, detectors, strict=True)
        names = [f"{name}_{safe_name(word)}" if word else name for name, word in pairs]
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name.casefold(), []).append(i)
    taken = {key for key, group in groups.items() if len(group) == 1}
    for group in groups.values():
        if len(group) > 1:
            stem = [names[i] for i in group]
            for i, name in zip(group, _told_apart(stem, group, paths, hdus, taken), strict=True):
                names[i] = name
                taken.add(name.casefold())
    return names


def _split(path: str) -> tuple[str, str]:
    stem, ending = _safe(os.path.basename(path)), ""
    while found := _ENDING.search(stem):
        stem, ending = stem[: found.start()], f"_{found[1]}{ending}"
    return not_a_device(stem or "frame"), ending


def _safe(name: str) -> str:
    return "".join(c if c.isprintable() and c not in _RISKY else "_" for c in name)


def _told_apart(
    stems: list[str], group: list[int], paths: Sequence[str], hdus: Sequence[int], taken: set[str]
) -> list[str]:
    hints = (
        [f"_hdu{hdus[i]}" for i in group],
        [_split(paths[i])[1] for i in group],
        [f"_{_safe(os.path.basename(os.path.dirname(paths[i])))}" for i in group],
    )
    for hint in hints:
        names = [stem + tail for stem, tail in zip(stems, hint, strict=True)]
        folded = {name.casefold() for name in names}
        if len(folded) == len(names) and not folded & taken:
            return names
    names = []
    for stem in stems:
        number = 1
        while f"{stem}_{number}".casefold() in taken | {name.casefold() for name in names}:
            number += 1
        names.append(f"{stem}_{number}")
    return names


def _frame_targets(
    ds: xr.Dataset, folder: Path | str, names: Sequence[str] | None
) -> Sequence[Path | str]:
    n = ds.sizes["frame"]
    if names is None:
        paths = [str(p) for p in ds["path"].values] if "path" in ds.coords else [""] * n
        hdus = [int(h) for h in ds["hdu"].values] if "hdu" in ds.coords else [0] * n
        names = product_names(paths, hdus)
    if len(names) != n or len({name.casefold() for name in names}) != n:
        raise ArgumentError(f"names should be {n} distinct names, one for each frame")
    for name in names:
        if not name or "/" in name or "\0" in name or name in (".", ".."):
            raise ArgumentError(f"names: {name!r} is not the name of a file")
    if isinstance(folder, str):
        return [f"{folder.rstrip('/')}/{name}.fits" for name in names]
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be made: {error.strerror}") from error
    return [folder / f"{name}.fits" for name in names]


def _refuse_sources(ds: xr.Dataset, targets: Sequence[Path | str]) -> None:
    """Refuse to replace a file that the pixels are read from: both would be lost."""
    there = [target for target in targets if is_url(target) or os.path.exists(target)]
    if not there:
        return
    read = ds["path"].values if "path" in ds.coords else ds.attrs.get("inputs", ())
    sources = {real(path) for path in map(str, read) if is_url(path) or os.path.isabs(path)}
    for target in there:
        if real(os.fspath(target)) in sources:
            raise OutputError(
                f"{target} is a frame that these pixels are read from; give another name or folder"
            )


# --- planes -------------------------------------------------------------------------------------


def band_of_frame(columns: int) -> int:
    """Rows of a band in which a single frame is computed and written."""
    return max(1, _BAND // max(1, columns))


def _frame_job(
    ds: xr.Dataset, i: int, planes: Sequence[str], origin: Origin | None
) -> Callable[[], list[Plane]]:
    rows = band_of_frame(ds.sizes["x"])
    pixels = needed_planes(ds, planes)
    return lambda: _planes(
        blocks(pixels.isel(frame=[i]), frame=1, rows=rows), planes, _frame_cards(ds, i, origin)
    )


def needed_planes(ds: xr.Dataset, planes: Sequence[str]) -> xr.Dataset:
    """What is written of frames, by the words for the planes of products; the rest is left out."""
    needed = ["image"]
    needed += ["variance", "variance_shared"] if "uncert" in planes else []
    needed += ["mask"] if "mask" in planes else []
    return ds[[name for name in needed if name in ds]]


def _master_planes(ds: xr.Dataset, planes: Sequence[str], origin: Origin | None) -> list[Plane]:
    written = _planes(ds, planes, _master_cards(ds, origin))
    if "n_used" in ds:
        said = "COMMENT number of frames that each pixel is made of".ljust(CARD)
        written.append(Plane("NUSED", said, _pixels(ds, "n_used").astype(np.uint16)))
    if UNSTABLE in ds:
        said = "".join(history_cards(ds[UNSTABLE].attrs["steps"]))
        written.append(Plane("UNSTABLE", said, _pixels(ds, UNSTABLE).astype(np.uint8)))
    return written


def _planes(ds: xr.Dataset, planes: Sequence[str], cards: str) -> list[Plane]:
    unit = _unit(ds)
    written = [Plane("", cards, _pixels(ds, "image").astype(np.float32))]
    if "uncert" in planes and "variance" in ds:
        named = [name for name in ("variance", "variance_shared") if name in ds]
        parts = [_pixels(ds, name) for name in named]
        kind = make_card("UTYPE", "StdDevUncertainty", "standard deviation")
        bunit = make_card("BUNIT", unit, "unit of the values") if unit else ""
        written.append(
            Plane("UNCERT", kind + bunit, da.map_blocks(deviation, *parts, dtype=np.float32))
        )
        if len(parts) > 1 and "frame" not in ds["image"].dims:
            shared = da.map_blocks(deviation, parts[1], dtype=np.float32)
            written.append(Plane("UNCSHARE", kind + bunit, shared))
    if "mask" in planes and "mask" in ds:
        written.append(Plane("MASK", _flag_cards(ds), _pixels(ds, "mask").astype(np.uint16)))
    return written


def _pixels(ds: xr.Dataset, name: str) -> da.Array:
    data = ds[name].data
    return data if isinstance(data, da.Array) else da.from_array(data, chunks=-1)


def _flag_cards(ds: xr.Dataset) -> str:
    attrs = ds["mask"].attrs if "flag_meanings" in ds["mask"].attrs else MASK_ATTRS
    pairs = zip(attrs["flag_masks"], str(attrs["flag_meanings"]).split(), strict=True)
    return "".join(
        make_card(f"FLAG{int(value)}", meaning, f"what bit {int(value).bit_length() - 1} means")
        for value, meaning in pairs
    )


# --- headers ------------------------------------------------------------------------------------


def _frame_cards(ds: xr.Dataset, i: int, origin: Origin | None) -> str:
    cards = str(ds["cards"].values[i]) if "cards" in ds.coords else ""
    values = normalise(parse(cards.encode("ascii", "replace")).values)
    steps = spelled_out(ds.drop_vars(list(ds.data_vars)).isel(frame=[i]))
    gain = next((r.parameters.get("gain") for r in steps if r.step == "gain_correct"), None)
    shift, first = _place(ds, values, cards)
    return product_cards(
        cards,
        bunit=_unit(ds),
        shift=shift,
        origin=first,
        facts=[
            *_detector(values, ds["detector"].values[i] if "detector" in ds.coords else ""),
            *_made_by(origin),
        ],
        history=[*(step.to_json() for step in steps), *_lines(origin)],
        gain_factor=_mean_gain(gain),
    )


def _mean_gain(gain: Any) -> float | None:
    """What a header's gain stands for: the mean of gains that differ between frames, amplifiers."""
    return None if gain is None else float(np.mean(gain))


def _master_cards(ds: xr.Dataset, origin: Origin | None) -> str:
    attrs = ds.attrs
    cards = _without_history(str(attrs.get("cards", "")))
    header = parse(cards.encode("ascii", "replace")).values
    values = normalise(header, comments=CardComments(cards))
    shift, first = _place(ds, values, cards)
    facts: list[Fact] = [
        ("IMAGETYP", str(attrs.get("imagetyp", "")).upper() or None, "kind of frame"),
        ("COMBINED", True, "made of several frames"),
        ("NCOMBINE", attrs.get("n_combined"), "number of frames combined"),
        ("EXPTIME", attrs.get("exptime"), "mean exposure time in s"),
        *_means(header, values, attrs),
        ("DATE-BEG", _time(attrs.get("date_beg")), "start of the first exposure"),
        ("DATE-END", _time(attrs.get("date_end")), "end of the last exposure"),
        ("MJD-AVG", attrs.get("mjd_avg"), "mean time of the exposures"),
        *_detector(values, attrs.get("detector", "")),
        *_made_by(origin),
    ]
    if _agrees(cards, values, attrs):
        facts = facts[1:]
    steps = [str(step) for step in attrs.get("steps", [])]
    gained = [json.loads(step) for step in steps if json.loads(step).get("step") == "gain_correct"]
    gain = gained[-1].get("gain") if gained else None
    known = {"origin": first, **window_record(place(ds)), **_facts(attrs, origin)}
    return product_cards(
        cards,
        bunit=_unit(ds),
        shift=shift,
        origin=first,
        facts=[(key, _plain(value), comment) for key, value, comment in facts],
        history=[
            *steps,
            json.dumps({"master": known}),
            *_lines(origin),
        ],
        gain_factor=_mean_gain(gain),
    )


def _agrees(cards: str, values: FrameValues, attrs: dict[str, Any]) -> bool:
    """Whether the raw IMAGETYP may stay: it says the same, perhaps more (SKYFLAT)."""
    given = any(cards[at : at + 10] == "IMAGETYP= " for at in range(0, len(cards), CARD))
    return given and values.imagetyp == attrs.get("imagetyp")


def _means(header: Mapping[str, Value], values: FrameValues, attrs: dict[str, Any]) -> list[Fact]:
    """Dark time and temperature, where the cards say another or none: a config may read others."""
    said = DEFAULT_KEYWORDS.held(header)["darktime"]
    facts: list[Fact] = []
    usual = values.darktime if said else attrs.get("exptime", math.nan)
    if not math.isclose(darktime := attrs.get("darktime", math.nan), usual):
        facts.append(((said or ["DARKTIME"])[0], darktime, "mean dark time in s"))
    if math.isnan(values.ccd_temp):
        facts.append(("CCD-TEMP", attrs.get("ccd_temp"), "mean temperature of the detector"))
    return facts


def _facts(attrs: dict[str, Any], origin: Origin | None) -> dict[str, Any]:
    """What is known of a master, as JSON holds it; its frames once."""
    left_out = ("cards", "steps", "file", "checksum", *(("inputs",) if origin else ()))
    plain = {str(key): _plain(value) for key, value in attrs.items() if key not in left_out}
    return {
        key: value
        for key, value in plain.items()
        if isinstance(value, str | bool | int | list)
        or (isinstance(value, float) and math.isfinite(value))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return _time(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value


def _time(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, np.datetime64) and np.isnat(value)):
        return None
    text = str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _without_history(cards: str) -> str:
    """The cards of a master that was read from its file, whose steps are in ``attrs`` now."""
    mark = f"HISTORY {PREFIX}"
    images = (cards[at : at + CARD] for at in range(0, len(cards), CARD))
    return "".join(image for image in images if not image.startswith(mark))


def _place(
    ds: xr.Dataset, values: FrameValues, cards: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns cut since the raw frame, and the detector coordinates of the first pixel."""
    origin = tuple(int(ds[axis].values[0]) if axis in ds.coords else 0 for axis in ("y", "x"))
    raw = (values.origin_y, values.origin_x) if cards else origin
    return (origin[0] - raw[0], origin[1] - raw[1]), (origin[0], origin[1])


def _unit(ds: xr.Dataset) -> str:
    return str(ds["image"].attrs.get("units", ""))


def _detector(raw: FrameValues, name: object) -> list[Fact]:
    """The name that a detector of a mosaic has, where its own header says another, or none."""
    if not name or str(name) == raw.detector:
        return []
    was = f", in a raw frame of {raw.detector!r}" if raw.detector else ""
    return [("DETECTOR", str(name), f"name of the detector{was}")]


def _made_by(origin: Origin | None) -> list[Fact]:
    from daskcal import __version__

    key = (KEY, origin.key or None, "of inputs, parameters and masters") if origin else None
    return [("DASKCAL", __version__, "version that made this file"), *([key] if key else [])]


def _lines(origin: Origin | None) -> list[str]:
    return origin.lines() if origin else []

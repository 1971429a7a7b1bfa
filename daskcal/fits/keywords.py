"""The one table of keyword and value aliases: any camera's header to normalised values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from daskcal.errors import ArgumentError, choose, nearest
from daskcal.fits.dates import observation_date
from daskcal.fits.geometry import frame_origin
from daskcal.fits.header import Value
from daskcal.fits.units import unit_of

# In order of preference. "A+B" is a pair of keywords for columns and rows.
_ALIASES: dict[str, tuple[str, ...]] = {
    "imagetyp": (
        "IMAGETYP",
        "OBSTYPE",
        "IMGTYPE",
        "IMAGTYPE",
        "IMAGETYPE",
        "IMTYPE",
        "OBS_TYPE",
        "OBS-TYPE",
        "EXPTYPE",
        "FRAMETYP",
        "FRAME",
        "DATA-TYP",
        "ESO DPR TYPE",
    ),
    # not INT_TIM, TSEC or PIXTIME: times of the readout and the clock, where they are known
    "exptime": ("EXPTIME", "EXPOSURE", "EXPOSED", "EXP_TIME", "EXP-TIME", "INTTIME", "INT_TIME"),
    "darktime": ("DARKTIME", "DARK_TIME"),
    "filter": (
        "FILTER",
        "FILTNAME",
        "FILTNAM",
        "FILTERID",
        "FILTER_ID",
        "INSFLNAM",
        "FILTER1",
        "FILTER01",
        "FILTERS",
        "ESO INS FILT1 NAME",
    ),
    "object": ("OBJECT", "OBJNAME", "TARGNAME", "TARGET"),
    "date_obs": ("DATE-OBS", "DATE_OBS", "DATEOBS", "DATE-BEG", "UTDATE", "UT-DATE"),
    "time_obs": (
        "UT",
        "UTC",
        "TIME-OBS",
        "TIME_OBS",
        "UTSTART",
        "UTCSTART",
        "UTC-OBS",
        "UT-OBS",
        "UT_OBS",
        "UT-START",
        "UTSHUT",
        "TIME-BEG",
    ),
    "mjd_obs": ("MJD-OBS", "MJD_OBS", "MJD-BEG", "JD-OBS", "JD"),
    "gain": ("EGAIN", "AGAIN_01", "GAIN", "CCDGAIN", "GAIN1"),
    "rdnoise": (
        "RDNOISE",
        "READNOIS",
        "READNOISE",
        "ENOISE",
        "ARDNS_01",
        "RON",
        "RONOISE",
        "CCDNOISE",
        "RDNOISE1",
    ),
    "ccd_temp": ("CCD-TEMP", "CCDTEMP", "CCD_TEMP", "DETTEMP", "DET-TEMP", "DET_TEMP", "TEMPDET"),
    "binning": (
        "XBINNING+YBINNING",
        "CCDSUM",
        "CCDBIN1+CCDBIN2",
        "CCDXBIN+CCDYBIN",
        "XBIN+YBIN",
        "BINX+BINY",
        "BINX1+BINX2",
        "BIN-FCT1+BIN-FCT2",
        "BINNING",
    ),
    "detector": ("DETECTOR", "CCDNAME", "DETNAM", "DETNAME", "CHIPID", "DETID", "CCDID", "DETSER"),
    "instrument": ("INSTRUME", "LCAMMOD", "INSTRMNT", "CAMERA"),
    "readout_mode": (
        "READOUTM",
        "READMODE",
        "RDMODE",
        "ROMODE",
        "CCDMODE",
        "READ-SPD",
        "READSPD",
        "RDSPEED",
        "READOUT",
        "SPEED",
    ),
    "unit": ("BUNIT",),
}

_WORDS = {
    "bias": "BIAS ZERO BIASFRAME ZEROFRAME BIASIMAGE OFFSETFRAME",
    "dark": "DARK DARKFRAME DARKIMAGE DARKCURRENT",
    "flat": "FLAT FLATFIELD FLATFRAME FLATIMAGE FFLAT LAMPFLAT FLATLAMP INTFLAT INTERNALFLAT",
    "dome-flat": "DOMEFLAT FLATDOME DFLAT DOMEFLATS",
    "sky-flat": "SKYFLAT FLATSKY SFLAT NIGHTSKYFLAT",
    "twilight-flat": "TWILIGHT TWILIGHTFLAT FLATTWILIGHT TWIFLAT TWFLAT TFLAT DUSKFLAT DAWNFLAT"
    " EVENINGFLAT MORNINGFLAT",
    "science": "OBJECT OBJ LIGHT LIGHTFRAME LIGHTIMAGE SCIENCE SCI SCIENCEFRAME TARGET EXPOSE"
    " STANDARD STD SKY IMAGE",
    "other": "ARC COMP COMPARISON LAMP FOCUS TEST ACQ ACQUISITION POINTING SLIT CALIB",
}
TYPES = tuple(_WORDS)
_NOTHING = frozenset(("", "none", "n/a", "null", "undefined", "undef", "-", "--", "---"))
_OPEN = frozenset(("clear", "open", "empty", "air", "clr"))

_PER_ADU = re.compile(r"e(-|lec\w*)?\s*/\s*(adu|dn|count)|per\s+adu", re.IGNORECASE)
_SETTING = re.compile(r"\b(index|idx|setting|mode|code|number|step|dB)\b", re.IGNORECASE)
_IN_ADU = re.compile(r"\b(adu|dn|counts?)\b", re.IGNORECASE)
_MILLI = re.compile(r"\b(ms|msecs?|millisec\w*)\b", re.IGNORECASE)
_MICRO = re.compile(r"\b(us|usecs?|microsec\w*)\b", re.IGNORECASE)
GAIN_RANGE = (0.05, 50.0)
_KEPT = 256  # sets of keywords whose meaning is kept


@dataclass(frozen=True)
class Keywords:
    """Which header keywords mean what, and which words mean which type of frame.

    Attributes
    ----------
    aliases : Mapping of str to tuple of str
        Normalised name to header keywords, the first one present counts. ``"A+B"`` names the
        keywords for columns and for rows.
    types : Mapping of str to str
        Value of the type keyword (upper case, letters and digits only) to one of `TYPES`.
    """

    aliases: Mapping[str, tuple[str, ...]]
    types: Mapping[str, str]
    _held: dict[tuple[str, ...], Mapping[str, list[str]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def held(self, header: Iterable[str]) -> Mapping[str, list[str]]:
        """The keywords of a header that count for each normalised name, the preferred first.

        Found once for all headers of the same keywords.
        """
        keys = tuple(header)
        found = self._held.get(keys)
        if found is None:
            if len(self._held) >= _KEPT:
                self._held.clear()
            there = frozenset(keys)
            found = {
                name: [key for key in words if key in there] for name, words in self.aliases.items()
            }
            found["binning"] = [
                alias
                for alias in self.aliases["binning"]
                if all(key in there for key in alias.split("+"))
            ]
            self._held[keys] = found
        return found

    def extended(
        self,
        aliases: Mapping[str, Iterable[str] | str] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> Keywords:
        """A table in which `aliases` come before, and `types` in place of, those of this one.

        Parameters
        ----------
        aliases : Mapping, optional
            Normalised name to header keywords, ``{"filter": ["INSFLNAM"]}``.
        types : Mapping, optional
            Value to type, ``{"FLATFIELD": "flat"}``; types are ``bias dark flat dome-flat
            sky-flat twilight-flat science other``.

        Raises
        ------
        ArgumentError
            Where a name or a type does not exist.
        """
        merged = dict(self.aliases)
        for name, given in (aliases or {}).items():
            if name not in merged:
                raise ArgumentError(f"there is no value {name!r}; {nearest(name, merged)}")
            new = tuple(map(bare_keyword, [given] if isinstance(given, str) else given))
            merged[name] = new + tuple(key for key in merged[name] if key not in new)
        words = dict(self.types)
        for word, kind in (types or {}).items():
            words[_compact(word)] = choose(f"type of {word!r}", kind, TYPES)
        return replace(self, aliases=MappingProxyType(merged), types=MappingProxyType(words))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (dict(self.aliases), dict(self.types))


def bare_keyword(text: str) -> str:
    """A header keyword, or a pair, as headers have it: without the word HIERARCH, in upper case.

    Examples
    --------
    >>> from daskcal.fits.keywords import bare_keyword
    >>> bare_keyword("HIERARCH ESO DET DIT")
    'ESO DET DIT'
    """
    parts = (" ".join(part.split()) for part in text.upper().split("+"))
    return "+".join(part.removeprefix("HIERARCH ") for part in parts)


def _rebuild(aliases: dict[str, tuple[str, ...]], types: dict[str, str]) -> Keywords:
    return Keywords(MappingProxyType(aliases), MappingProxyType(types))


DEFAULT_KEYWORDS = _rebuild(
    _ALIASES, {word: kind for kind, words in _WORDS.items() for word in words.split()}
)


@dataclass(frozen=True, slots=True)
class FrameValues:
    """The normalised values of one frame; NaN, NaT or ``""`` where the header has none.

    Attributes
    ----------
    imagetyp : str
        ``bias``, ``dark``, ``flat``, ``science`` or ``other``.
    flat_kind : str
        ``dome``, ``sky``, ``twilight`` or ``""``.
    exptime, darktime : float
        Seconds; `darktime` is `exptime` where the header has none.
    date_obs : numpy.datetime64
        Start, UTC, in microseconds.
    gain, rdnoise : float
        electron/adu and electron.
    ccd_temp : float
        As in the header.
    binning : str
        Columns x rows, ``"1x1"``.
    unit : str
        An astropy unit string.
    origin_y, origin_x : int
        0-based detector coordinates of the pixel [0, 0], in pixels of the frame.
    origin_known : bool
        Whether the header gives them; they are 0 otherwise.
    """

    imagetyp: str
    flat_kind: str
    exptime: float
    darktime: float
    filter: str
    object: str
    date_obs: np.datetime64
    gain: float
    rdnoise: float
    ccd_temp: float
    binning: str
    detector: str
    instrument: str
    readout_mode: str
    unit: str
    origin_y: int
    origin_x: int
    origin_known: bool


def normalise(
    header: Mapping[str, Value],
    keywords: Keywords = DEFAULT_KEYWORDS,
    comments: Mapping[str, str] | None = None,
) -> FrameValues:
    """The normalised values of one header.

    Parameters
    ----------
    header : Mapping
        Keyword to value, as `Frame.header`.
    keywords : Keywords
        The alias table.
    comments : Mapping, optional
        Keyword to the comment of its card (`daskcal.fits.CardComments`): tells a gain from the
        index of a gain, and milliseconds from seconds.
    """
    reader = _Reader(header, keywords.held(header), {} if comments is None else comments)
    imagetyp, flat_kind = _type(reader, keywords.types)
    exptime = reader.seconds("exptime")
    darktime = reader.seconds("darktime")
    if math.isnan(darktime) or darktime == 0:
        darktime = exptime  # zero is written by cameras that do not know it
    gain, setting = _gain(reader)
    binning = _binning(reader)
    origin = frame_origin(header, binning)
    return FrameValues(
        imagetyp=imagetyp,
        flat_kind=flat_kind,
        exptime=exptime,
        darktime=darktime,
        filter=_filter(reader),
        object=reader.text("object"),
        date_obs=observation_date(
            reader.all("date_obs"),
            reader.all("time_obs"),
            reader.numbers("mjd_obs"),
            str(header.get("TIMESYS", "UTC")),
        ),
        gain=gain,
        rdnoise=_rdnoise(reader, gain),
        ccd_temp=reader.number("ccd_temp"),
        binning="x".join(map(str, binning)) if binning else "",
        detector=reader.text("detector"),
        instrument=reader.text("instrument"),
        readout_mode=_readout_mode(reader, setting),
        unit=unit_of(reader.text("unit")),
        origin_y=origin[0] if origin else 0,
        origin_x=origin[1] if origin else 0,
        origin_known=origin is not None,
    )


class _Reader:
    """Looks names up in one header by the alias table."""

    def __init__(
        self,
        header: Mapping[str, Value],
        held: Mapping[str, list[str]],
        comments: Mapping[str, str],
    ) -> None:
        self.header, self.held, self.comments = header, held, comments

    def present(self, name: str) -> list[str]:
        return self.held[name]

    def all(self, name: str) -> list[Value]:
        return [self.header[key] for key in self.present(name)]

    def numbers(self, name: str) -> list[float]:
        found = (as_number(value) for value in self.all(name))
        return [number for number in found if math.isfinite(number)]

    def number(self, name: str) -> float:
        return next(iter(self.numbers(name)), math.nan)

    def text(self, name: str) -> str:
        return next((text for value in self.all(name) if (text := as_text(value))), "")

    def seconds(self, name: str) -> float:
        for key in self.present(name):
            seconds = as_number(self.header[key])
            if 0 <= seconds < math.inf:
                comment = self.comments.get(key, "")
                return seconds * (
                    1e-3 if _MILLI.search(comment) else 1e-6 if _MICRO.search(comment) else 1
                )
        return math.nan


def as_number(value: Value) -> float:
    """The number that a header value is, or spells; NaN for anything else."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def as_text(value: Value) -> str:
    """The text of a header value, ``""`` for words that say that there is none."""
    return "" if isinstance(value, bool) else _text(str(value))


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    text = " ".join(value.split())
    return "" if text.lower() in _NOTHING else text


def _compact(word: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", word.upper())


def type_words(header: Mapping[str, Value], keywords: Keywords = DEFAULT_KEYWORDS) -> Iterator[str]:
    """What a header says of its frame's type, in the form of the words of `Keywords.types`."""
    for key in keywords.held(header)["imagetyp"]:
        if isinstance(value := header[key], str):
            yield _compact(value)


def _type(reader: _Reader, types: Mapping[str, str]) -> tuple[str, str]:
    for value in reader.all("imagetyp"):
        kind = types.get(_compact(value)) if isinstance(value, str) else None
        if kind is not None:
            flat_kind, dash, flat = kind.partition("-")
            return (flat, flat_kind) if dash else (kind, "")
    return "other", ""


def _filter(reader: _Reader) -> str:
    for key in reader.present("filter"):
        if key in ("FILTER1", "FILTER01"):  # several wheels: what is in the beam is all of them
            wheels = [key[:-1] + str(n) for n in range(1, 5)]
            names = [as_text(reader.header.get(wheel, "")) for wheel in wheels]
            names = [name for name in names if name]
            text = "+".join(n for n in names if n.lower() not in _OPEN) or "".join(names[:1])
        else:
            text = as_text(reader.header[key])
        if text:
            return text
    return ""


def _gain(reader: _Reader) -> tuple[float, str]:
    """The gain, and the value of GAIN where that is the setting of a camera rather than a gain."""
    setting, value = "", reader.header.get("GAIN", "")
    comment = reader.comments.get("GAIN", "")
    low, high = GAIN_RANGE
    if as_text(value) and (
        not low <= as_number(value) <= high
        or (_SETTING.search(comment) and not _PER_ADU.search(comment))
    ):
        setting = as_text(value)
    for key in reader.present("gain"):
        number = as_number(reader.header[key])
        several = key.endswith("1") and key[-2:-1].isalpha() and key[:-1] + "2" in reader.header
        if low <= number <= high and not several and not (key == "GAIN" and setting):
            return number, setting
    return math.nan, setting


def _rdnoise(reader: _Reader, gain: float) -> float:
    for key in reader.present("rdnoise"):
        noise = as_number(reader.header[key])
        several = key == "RDNOISE1" and "RDNOISE2" in reader.header
        if 0 < noise < 1e4 and not several:
            comment = reader.comments.get(key, "")
            in_adu = _IN_ADU.search(comment) and not re.search(r"\be(-|lec)", comment, re.I)
            return noise * gain if in_adu else noise
    return math.nan


def _binning(reader: _Reader) -> tuple[int, int] | None:
    for alias in reader.present("binning"):
        found = _factors(" ".join(str(reader.header[key]) for key in alias.split("+")))
        if found is not None:
            return found
    return None


@lru_cache(maxsize=256)
def _factors(text: str) -> tuple[int, int] | None:
    """Columns and rows from one number or two."""
    factors = [int(float(number)) for number in re.findall(r"\d+(?:\.0*)?", text)]
    if len(factors) == 1:
        factors *= 2
    return (factors[0], factors[1]) if len(factors) == 2 and min(factors) > 0 else None


def _readout_mode(reader: _Reader, setting: str) -> str:
    mode = ""
    for key in reader.present("readout_mode"):
        value = reader.header[key]
        if not (key == "SPEED" and isinstance(value, float)):  # of the wind, or the telescope
            mode = mode or as_text(value)
    return ", ".join(filter(None, (mode, f"gain {setting}" if setting else "")))

"""The header each camera writes, quirks included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from astropy.io import fits

from daskcal.simulate.cameras import Camera, Geometry, Series

Card = tuple[str, "bool | int | float | str", str]


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame to be taken: what the header needs to know of it."""

    camera: Camera
    geometry: Geometry
    series: Series
    index: int
    number: int
    gain: float
    rdnoise: float
    dither: tuple[float, float]
    days: int = 0

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        return self.series.stem.format(n=self.number)

    @property
    def exptime(self) -> float:
        """Seconds of exposure."""
        return self.series.exptime(self.index)

    @property
    def darktime(self) -> float:
        """Seconds for which dark current gathers; none in a bias."""
        return 0.0 if self.series.kind == "bias" else self.exptime + self.camera.darktime_extra

    @property
    def start(self) -> datetime:
        """UTC at which the exposure starts."""
        first = datetime.fromisoformat(self.series.start).replace(tzinfo=UTC)
        return first + timedelta(days=self.days, seconds=self.series.cadence * self.index)

    @property
    def temperature(self) -> float:
        """Temperature of the detector: its set point and a small wander, °C."""
        return -20.0 + 0.03 * math.sin(1.7 * self.index + self.number)


def make_header(shot: Shot) -> fits.Header:
    """All cards of a frame but those that describe the array (SIMPLE to BZERO)."""
    writers = {"generic": _generic, "lfc": _lfc, "aspen-cg16m": _aspen}
    header = fits.Header()
    for keyword, value, comment in writers[shot.camera.name](shot):
        header.append((keyword, value, comment), end=True)
    return header


def exposure_cards(shot: Shot) -> Iterator[Card]:
    """What was taken, and when."""
    yield "OBJECT", shot.series.object, "name of the object"
    yield "IMAGETYP", shot.series.imagetyp, "type of frame"
    yield "EXPTIME", shot.exptime, "[s] exposure"
    yield "DARKTIME", shot.darktime, "[s] time of dark current"
    if shot.series.filter:
        yield "FILTER", shot.series.filter, "filter"
    yield "DATE-OBS", f"{shot.start:%Y-%m-%dT%H:%M:%S}.000", "start of the exposure"
    yield "TIMESYS", "UTC", ""


def _generic(shot: Shot) -> Iterator[Card]:
    ny, nx, first = shot.geometry.ny, shot.geometry.nx, shot.geometry.prescan + 1
    overscan = shot.geometry.overscan_columns
    yield "BUNIT", "adu", "unit of the pixel values"
    yield "ORIGIN", "Simulated Observatory", ""
    yield "OBSERVAT", "Simulated Observatory", ""
    yield "TELESCOP", "0.8 m reflector", ""
    yield "INSTRUME", "generic CCD", ""
    yield "DETECTOR", "CCD-0", ""
    yield "OBSERVER", "daskcal simulate", ""
    yield from exposure_cards(shot)
    yield "MJD-OBS", round(_jd(shot.start) - 2400000.5, 8), "[d] start of the exposure"
    yield "GAIN", shot.gain, "[electron/adu] inverse gain"
    yield "RDNOISE", shot.rdnoise, "[electron] read noise"
    yield "SATURATE", 65535, "[adu] largest value"
    yield "CCD-TEMP", round(shot.temperature, 3), "[degC] detector"
    yield "SET-TEMP", -20.0, "[degC] set point"
    yield "READMODE", "normal", ""
    yield "XBINNING", 1, ""
    yield "YBINNING", 1, ""
    yield "BIASSEC", f"[{overscan.start + 1}:{overscan.stop},1:{ny}]", "overscan"
    yield "TRIMSEC", f"[{first}:{first + nx - 1},1:{ny}]", "imaging area"
    yield "DATASEC", f"[{first}:{first + nx - 1},1:{ny}]", "imaging area"
    yield "XPIXSZ", 13.5, "[um]"
    yield "YPIXSZ", 13.5, "[um]"
    yield from _pointing(shot, 114.599, 21.577)
    yield "FOCALLEN", 4642.0, "[mm]"
    yield "SITELAT", 28.3, "[deg]"
    yield "SITELONG", -16.5, "[deg] east"
    yield "ALT-OBS", 2390.0, "[m]"


def _lfc(shot: Shot) -> Iterator[Card]:
    ny, nx = shot.geometry.ny, shot.geometry.nx
    yield "DATE", f"{shot.start:%Y-%m-%d}", "date of file creation"
    yield "ORIGIN", "California Institute of Technology", ""
    yield "LATITUDE", 33.4, "degrees north"
    yield "LONGITUD", -116.9, "degrees east"
    yield "TELESCOP", "Hale 5m Telescope", ""
    yield "FRATIO", 7.5, ""
    yield "INSTRUME", "LFC", ""
    yield "DETECTOR", "SITe SI002 x 6", ""
    yield "FRAME", shot.number, ""
    yield "CCDPICNO", shot.number, ""
    yield "OBJECT", shot.series.object, ""
    yield "IMAGETYP", shot.series.imagetyp, ""
    yield "EXPTIME", shot.exptime, "seconds"
    yield "DARKTIME", round(shot.darktime, 3), "seconds"
    yield "DATE-OBS", f"{shot.start:%Y-%m-%d}", "UT date"
    yield "UT", f"{shot.start:%H:%M:%S}.00", "universal time"
    yield "JD", round(_jd(shot.start), 6), ""
    yield from _pointing(shot, 118.15, 50.71)
    yield "HA", "00:00:04.00", ""
    yield "ST", _clock(_sidereal_hours(shot.start, -116.9)), "sidereal time"
    yield "FILTER", shot.series.filter, ""
    yield "GAIN", shot.gain, ""
    yield "SECPIX1", shot.camera.arcsec, ""
    yield "SECPIX2", shot.camera.arcsec, ""
    yield "CCDBIN1", 1, ""
    yield "CCDBIN2", 1, ""
    yield "ROTANGLE", 0.0, ""
    yield "DATASEC", f"[1:{nx},1:{ny}]", ""
    yield "CCDSEC", f"[1:{nx},1:{ny}]", ""
    # the real camera's: it takes in columns that hold charge of the image, and misses a row
    yield "BIASSEC", f"[{nx + 1}:{shot.geometry.shape[1]},1:{ny - 1}]", ""
    yield "LOGINFO", "Status=0x00000000", ""
    yield "CHIPID", 0, ""


def _aspen(shot: Shot) -> Iterator[Card]:
    nx = shot.geometry.nx
    stamp, clock = f"{shot.start:%Y-%m-%dT%H:%M:%S}", f"{shot.start:%H:%M:%S}"
    yield "DATE-OBS", stamp, "ISO-8601 observation date matching MJD-OBS"
    yield "EXPTIME", shot.exptime, "[sec] Duration of exposure"
    yield "EXPOSURE", shot.exptime, "[sec] Duration of exposure"
    yield "SET-TEMP", -20.0, "CCD temperature setpoint in C"
    yield "CCD-TEMP", round(shot.temperature, 8), "CCD temperature at start of exposure in C"
    yield "XPIXSZ", 9.0, "Pixel Width in microns (after binning)"
    yield "YPIXSZ", 9.0, "Pixel Height in microns (after binning)"
    yield "XBINNING", 1, "Binning level along the X-axis"
    yield "YBINNING", 1, "Binning level along the Y-axis"
    yield "XORGSUBF", 0, "Subframe X position in binned pixels"
    yield "YORGSUBF", 0, "Subframe Y position in binned pixels"
    yield "READOUTM", "Monochrome", "Readout mode of image"
    if shot.series.filter:
        yield "FILTER", shot.series.filter, "Filter name"
    yield "IMAGETYP", shot.series.imagetyp, "Type of image"
    yield "FOCALLEN", 3200.0, "Focal length of telescope in mm"
    yield "APTDIA", 400.0, "Aperture diameter of telescope in mm"
    yield "APTAREA", 125663.70964050293, "Aperture area of telescope in mm^2"
    yield "EGAIN", shot.gain, "Electronic gain in e-/ADU"
    yield "SWCREATE", "MaxIm DL Version 6.18", "Name of software"
    yield "SITELAT", "+46:52:00.408", "Latitude of the imaging location"
    yield "SITELONG", "-96:27:11.8008", "Longitude of the imaging location"
    if shot.series.object:
        yield "OBJECT", shot.series.object, "Target object name"
    yield "TELESCOP", "", "Telescope name"
    yield "INSTRUME", "AspenCG16", "Detector instrument name"
    yield "OBSERVER", "", "Observer name"
    yield "NOTES", "", ""
    yield "FLIPSTAT", "", ""
    yield "PEDESTAL", 0, "Correction to add for zero-based ADU"
    yield "DATE", stamp, "UTC date of exposure start"
    yield "TIME-OBS", clock, "UTC time of exposure start"
    yield "UT", clock, "UTC time of exposure start"
    yield "TIMESYS", "UTC", "Default time system"
    yield "LAT-OBS", 46.8667833333, "[deg +N WGS84] Geodetic latitude"
    yield "LONG-OBS", -96.4532750000, "[deg +E WGS84] Geodetic longitude"
    yield "ALT-OBS", 311.8, "[metres] Altitude above mean sea level"
    yield "LST", _clock(_sidereal_hours(shot.start, -96.45)), "Local sidereal time"
    yield "JD-OBS", round(_jd(shot.start), 8), ""
    yield "MJD-OBS", round(_jd(shot.start) - 2400000.5, 8), ""
    # as the real frames have them: they are not sections that FITS knows
    yield "BIASSEC", f"[{nx}:{shot.geometry.shape[1]}]", "Region of useful overscan"
    yield "TRIMSEC", f"[1:{nx}, :]", "Region to be preserved upon trimming"
    yield "BUNIT", "adu", ""
    if shot.series.kind == "science":
        yield from _pointing(shot, 314.268, 31.661)
        yield "OBSERVAT", "Paul P. Feder Observatory", "Observatory name"


def pointing(ra: float, dec: float, shot: Shot) -> Iterator[Card]:
    """Where the telescope points (degrees)."""
    yield "RA", _clock(ra / 15), "hours"
    yield "DEC", _clock(dec, sign=True), "degrees"
    yield "EQUINOX", 2000.0, ""
    yield "AIRMASS", round(1.05 + 0.02 * shot.index, 3), ""


def _pointing(shot: Shot, ra: float, dec: float) -> Iterator[Card]:
    """The same, and for science frames the coordinates of the pixels."""
    yield from pointing(ra, dec, shot)
    if shot.series.kind != "science":
        return
    ny, nx = shot.geometry.ny, shot.geometry.nx
    scale = shot.camera.arcsec / 3600
    yield "RADESYS", "FK5", ""
    yield "CTYPE1", "RA---TAN", ""
    yield "CTYPE2", "DEC--TAN", ""
    yield "CUNIT1", "deg", ""
    yield "CUNIT2", "deg", ""
    yield "CRVAL1", ra, "[deg]"
    yield "CRVAL2", dec, "[deg]"
    yield "CRPIX1", round(shot.geometry.prescan + (nx + 1) / 2 + shot.dither[1], 4), ""
    yield "CRPIX2", round((ny + 1) / 2 + shot.dither[0], 4), ""
    yield "CD1_1", -scale, ""
    yield "CD1_2", 0.0, ""
    yield "CD2_1", 0.0, ""
    yield "CD2_2", scale, ""


def _jd(when: datetime) -> float:
    return 2451545.0 + (when - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400


def _sidereal_hours(when: datetime, longitude: float) -> float:
    """Local mean sidereal time (Astronomical Almanac, low precision)."""
    degrees = 280.46062 + 360.98564737 * (_jd(when) - 2451545.0) + longitude
    return degrees % 360 / 15


def _clock(value: float, *, sign: bool = False) -> str:
    """Sexagesimal text of hours or degrees."""
    total = round(abs(value) * 360000)
    minutes, hundredths = divmod(total, 6000)
    lead = ("-" if value < 0 else "+") if sign else ""
    return f"{lead}{minutes // 60:02d}:{minutes % 60:02d}:{hundredths / 100:05.2f}"

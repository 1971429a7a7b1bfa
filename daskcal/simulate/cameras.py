"""The cameras that can be simulated: geometry, electronics, and what a night of each holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the kept (imaging) area lies in a raw frame; columns run prescan, kept, junk, overscan.

    Attributes
    ----------
    ny, nx : int
        Rows and columns of the kept area; `top` of the rows, the last ones, see no light.
    prescan, junk, overscan : int
        Columns before the kept area, between it and the overscan, and of the overscan.
    """

    ny: int
    nx: int
    prescan: int
    junk: int
    overscan: int
    top: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a raw frame."""
        return self.ny, self.prescan + self.nx + self.junk + self.overscan

    @property
    def kept_columns(self) -> slice:
        """Columns of a raw frame that a reduction keeps."""
        return slice(self.prescan, self.prescan + self.nx)

    @property
    def overscan_columns(self) -> slice:
        """Columns of a raw frame that hold nothing but the electronics' level (none if empty)."""
        start = self.prescan + self.nx + self.junk
        return slice(start, start + self.overscan)


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one kind taken one after the other.

    Attributes
    ----------
    kind : str
        ``bias``, ``dark``, ``flat`` or ``science``.
    imagetyp, object, filter : str
        As in the header; an empty filter is left out of it.
    count : int
        Frames taken.
    exptimes : tuple of float
        Seconds of the first frames; the last one repeats.
    levels : tuple of float
        Flats: signal above the bias, adu, of the first frames; the last one repeats.
        Science: sky, electron/s per pixel. Others: empty.
    start : str
        UTC of the first frame, ISO 8601.
    cadence : float
        Seconds between starts.
    stem : str
        File name without suffix, with ``{n}``.
    numbers : tuple of int
        ``n`` of the first frames; the last one counts on (over names that are taken).
    """

    kind: str
    imagetyp: str
    object: str
    filter: str
    count: int
    exptimes: tuple[float, ...]
    start: str
    cadence: float
    stem: str
    numbers: tuple[int, ...]
    levels: tuple[float, ...] = ()

    def exptime(self, index: int) -> float:
        """Seconds of frame `index`."""
        return self.exptimes[min(index, len(self.exptimes) - 1)]

    def level(self, index: int) -> float:
        """Level of frame `index`, 0 where the kind has none."""
        return self.levels[min(index, len(self.levels) - 1)] if self.levels else 0.0

    def number(self, index: int) -> int:
        """Number in the file name of frame `index`."""
        last = len(self.numbers) - 1
        return self.numbers[index] if index <= last else self.numbers[last] + index - last


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One of the four amplifiers of a chip of a mosaic.

    Attributes
    ----------
    gain, rdnoise, bias_level : float
        electron/adu, electron, adu.
    bend : float
        What makes its values proportional to the charge again: u·(1 + bend·u), u in adu above the
        bias.
    """

    gain: float
    rdnoise: float
    bias_level: float
    bend: float


@dataclass(frozen=True, slots=True)
class Chip:
    """One detector of a mosaic, read through four amplifiers at its corners.

    Attributes
    ----------
    name : str
        In EXTNAME.
    throughput : float
        What it makes of the light, against the others.
    amplifiers : tuple of Amplifier
        Bottom left, bottom right, top left, top right.
    crosstalk : tuple of tuple of float
        In row v and column s the part of amplifier s that appears in amplifier v.
    """

    name: str
    throughput: float
    amplifiers: tuple[Amplifier, ...]
    crosstalk: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera and its night.

    Attributes
    ----------
    size : tuple of int
        Rows and columns of the real camera's kept area.
    prescan, junk, overscan : int
        See `Geometry`.
    top_every : int
        One row in so many lies in the overscan across the top; 0 for none.
    gain : float
        electron/adu.
    rdnoise : float
        electron.
    bias_level : float
        adu.
    drift : float
        How far the bias level wanders from frame to frame and row to row, adu.
    light_leak : float
        Share of the light of the last column that reaches the junk columns (which fades along
        them unless there is no overscan: then they are all lit alike).
    dark_rate : float
        Dark current of a normal pixel, electron/s.
    glow : tuple of float
        Amplifier glow at the left edge, right edge and bottom-left corner, electron/s.
    bright_column : float
        Dark current of the one bright column, electron/s; 0 for none.
    vignetting : float
        Loss of light in the corners, 0 to 1.
    donuts : int
        Shadows of dust.
    dead_column : float
        Share of one column, from its top, that sees no light.
    darktime_extra : float
        Seconds for which charge gathers beyond the exposure; in DARKTIME.
    arcsec : float
        Size of a pixel on the sky.
    chips : tuple of Chip
        The detectors of a mosaic, each of `size`; gain, read noise and bias level are theirs.
    """

    name: str
    size: tuple[int, int]
    gain: float
    rdnoise: float
    bias_level: float
    dark_rate: float
    vignetting: float
    arcsec: float
    suffix: str
    series: tuple[Series, ...]
    prescan: int = 0
    junk: int = 0
    overscan: int = 0
    top_every: int = 0
    drift: float = 0.0
    light_leak: float = 0.0
    glow: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bright_column: float = 0.0
    donuts: int = 0
    dead_column: float = 1 / 32
    darktime_extra: float = 0.0
    filters: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()

    def geometry(self, size: tuple[int, int] | None = None) -> Geometry:
        """The geometry of a frame whose kept area has `size` rows and columns."""
        ny, nx = self.size if size is None else size
        top = max(2, ny // self.top_every) if self.top_every else 0
        return Geometry(ny, nx, self.prescan, self.junk, self.overscan, top)


def _generic_filter(name: str, minute: int, first: int, sky: float) -> tuple[Series, ...]:
    flats = Series(
        "flat", "SKYFLAT", "sky flat", name, 5, (2.0, 2.5, 3.2, 4.1, 5.3),
        f"2024-03-14T01:{minute}:00", 60, "n{n:04d}", (first,), (28e3, 25.5e3, 23e3, 20.5e3, 18e3),
    )  # fmt: skip
    short = Series(
        "science", "OBJECT", "NGC 2420", name, 1, (60.0,),
        f"2024-03-14T03:{minute}:00", 90, "n{n:04d}", (first + 20,), (sky,),
    )  # fmt: skip
    deep = Series(
        "science", "OBJECT", "NGC 2420", name, 1, (300.0,),
        f"2024-03-14T04:{minute}:00", 330, "n{n:04d}", (first + 40,), (sky,),
    )  # fmt: skip
    return flats, short, deep


GENERIC = Camera(
    name="generic",
    size=(1024, 1024),
    prescan=16,
    junk=4,
    overscan=60,
    gain=1.4,
    rdnoise=8.0,
    bias_level=1000.0,
    drift=4.0,
    light_leak=0.02,
    dark_rate=0.05,
    glow=(0.04, 0.0, 0.0),
    vignetting=0.25,
    donuts=6,
    darktime_extra=1.5,
    arcsec=0.6,
    suffix=".fits",
    filters=("B", "V"),
    series=(
        Series("bias", "BIAS", "bias", "", 9, (0.0,), "2024-03-13T22:00:00", 20, "n{n:04d}", (1,)),
        Series(
            "dark", "DARK", "dark", "", 7, (60.0,), "2024-03-13T22:10:00", 75, "n{n:04d}", (101,)
        ),
        Series(
            "dark", "DARK", "dark", "", 5, (300.0,), "2024-03-13T22:30:00", 315, "n{n:04d}", (201,)
        ),
        *_generic_filter("B", 10, 301, 2.0),
        *_generic_filter("V", 30, 401, 4.0),
    ),
)


def _lfc_dark(exptime: float, hour: int, first: int) -> Series:
    return Series(
        "dark", "DARK", "dark", "r'", 3, (exptime,),
        f"2016-03-13T{hour:02d}:05:00", exptime + 60, "ccd.{n:03d}.0", (first,),
    )  # fmt: skip


# Chip 0 of Palomar's Large Format Camera: the frames, times, levels and section cards of Example 1
# of the CCD Data Reduction Guide (darks keep their bias and are taken two months later).
LFC = Camera(
    name="lfc",
    size=(4128, 2048),
    junk=7,
    overscan=25,
    top_every=129,
    gain=1.1,
    rdnoise=11.0,
    bias_level=1000.0,
    drift=6.0,
    light_leak=0.08,
    dark_rate=0.01,
    glow=(0.4, 0.0, 0.5),
    vignetting=0.12,
    dead_column=0.4,
    darktime_extra=0.672,
    arcsec=0.182,
    suffix=".fits",
    filters=("g'", "i'"),
    series=(
        Series(
            "bias", "BIAS", "bias", "i'", 6, (0.0,),
            "2016-01-15T23:40:00", 62, "ccd.{n:03d}.0", (1,),
        ),
        _lfc_dark(7.0, 3, 23),
        _lfc_dark(70.0, 4, 26),
        _lfc_dark(300.0, 5, 29),
        Series(
            "flat", "FLATFIELD", "flat_g", "g'", 3, (70.001, 70.011, 70.001),
            "2016-01-16T04:17:28", 187, "ccd.{n:03d}.0", (14,), (20173.0, 20169.0, 20157.0),
        ),
        Series(
            "flat", "FLATFIELD", "flat_i", "i'", 3, (7.0,),
            "2016-01-16T04:27:23", 124, "ccd.{n:03d}.0", (17,), (21026.0, 21042.0, 21058.0),
        ),
        Series(
            "science", "OBJECT", "vv124_1", "g'", 1, (300.062,),
            "2016-01-16T10:02:11", 360, "ccd.{n:03d}.0", (37,), (1.5,),
        ),
        Series(
            "science", "OBJECT", "vv124_1", "i'", 1, (300.014,),
            "2016-01-16T10:41:53", 360, "ccd.{n:03d}.0", (43,), (6.0,),
        ),
    ),
)  # fmt: skip

_ASPEN_BIAS = 1200.0
_TWILIGHT = (45892, 44226, 43129, 41496, 39872, 39020, 38818, 38864, 38823, 38662)

# Feder Observatory's Andor Aspen CG16M: Example 2 of the guide. The levels there are of flats whose
# bias was not subtracted.
ASPEN = Camera(
    name="aspen-cg16m",
    size=(4096, 4096),
    junk=13,
    gain=1.5,
    rdnoise=10.0,
    bias_level=_ASPEN_BIAS,
    light_leak=0.94,
    dark_rate=0.03,
    glow=(0.3, 0.2, 0.0),
    bright_column=1.5,
    vignetting=0.1,
    donuts=9,
    arcsec=0.563,
    suffix=".fit",
    filters=("r",),
    series=(
        Series(
            "bias", "BIAS", "", "", 10, (0.0,),
            "2018-08-23T11:20:07", 15, "Bias-S001-R001-C{n:03d}-NoFilt", (1,),
        ),
        Series(
            "dark", "DARK", "", "", 11, (90.0,),
            "2018-08-23T10:42:41", 105, "Dark-S001-R001-C{n:03d}-NoFilt", (1,),
        ),
        Series(
            "flat", "FLAT", "", "r", 10, (1.0, 1.0, 1.0, 1.0, 1.0, 1.02, 1.06, 1.11, 1.16, 1.21),
            "2018-08-23T01:25:17", 25.7, "AutoFlat-PANoRot-r-Bin1-{n:03d}", (1,),
            tuple(level - _ASPEN_BIAS for level in _TWILIGHT),
        ),
        Series(
            "science", "LIGHT", "kelt-16b", "r", 2, (90.0,),
            "2018-08-23T09:00:21", 5349, "kelt-16-b-S001-R001-C{n:03d}-r", (84, 125), (2.5,),
        ),
    ),
)  # fmt: skip

_BENDS = (1.2e-6, 0.7e-6, 1.6e-6, 0.4e-6)  # 1/adu: 2 to 8 % at 50,000 adu


def _chip(number: int, throughput: float) -> Chip:
    """A chip whose amplifiers differ from one another, and from those of the other chips."""
    amplifiers = tuple(
        Amplifier(
            gain=1.3 + 0.12 * number + 0.09 * i,
            rdnoise=4.0 + 0.5 * number + 0.8 * i,
            bias_level=900.0 + 110 * number + 35 * i,
            bend=_BENDS[(i + number) % 4],
        )
        for i in range(4)
    )
    leaks = tuple(
        tuple(0.0 if v == s else 1e-4 * (1 + (2 * v + s + number) % 4) for s in range(4))
        for v in range(4)
    )
    return Chip(f"CCD{number + 1}", throughput, amplifiers, leaks)


def _mosaic_series(name: str, hour: int, sky: float) -> tuple[Series, Series]:
    flats = Series(
        "flat", "DOMEFLAT", "dome flat", name, 10, (8.0,), f"2024-11-02T{hour:02d}:00:00", 70,
        f"flat_{name}_{{n:03d}}", (1,), (22e3,),
    )  # fmt: skip
    science = Series(
        "science", "OBJECT", "NGC 7789", name, 10, (120.0,), f"2024-11-02T{hour + 4:02d}:00:00",
        160, f"ngc7789_{name}_{{n:03d}}", (1,), (sky,),
    )  # fmt: skip
    return flats, science


# Four chips in a square, 60 exposures.
MOSAIC = Camera(
    name="mosaic",
    size=(1024, 1024),
    overscan=24,
    gain=1.5,
    rdnoise=6.0,
    bias_level=1000.0,
    drift=2.0,
    dark_rate=0.02,
    vignetting=0.1,
    donuts=3,
    arcsec=0.4,
    suffix=".fits",
    filters=("g", "r"),
    series=(
        Series(
            "bias", "ZERO", "bias", "", 15, (0.0,), "2024-11-01T22:00:00", 40, "bias_{n:03d}", (1,)
        ),
        Series(
            "dark", "DARK", "dark", "", 5, (120.0,), "2024-11-01T22:20:00", 160, "dark_{n:03d}",
            (1,),
        ),
        *_mosaic_series("g", 0, 4.0),
        *_mosaic_series("r", 1, 9.0),
    ),
    chips=tuple(_chip(i, throughput) for i, throughput in enumerate((1.0, 0.86, 1.12, 0.95))),
)  # fmt: skip

CAMERAS = {camera.name: camera for camera in (GENERIC, LFC, ASPEN, MOSAIC)}

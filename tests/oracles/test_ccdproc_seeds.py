"""The seeds' two cameras: every master and science frame against ccdproc doing the seeds' recipe.

ccdproc works in float64 here and daskcal in float32, which rounds by half an ulp each time that a
value is stored: the bias master and what is left after it, the dark and what is left after it, a
flat's scaled value and its mean. So `ULPS` = 6 / 2 ulp of the largest value that a pixel had on its
way is what rounding can do (measured: 0.5 for biases and darks, 1.4 for flats, 0.8 for science).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std, sigma_clip

import daskcal
from daskcal.night.ledger import Ledger
from daskcal.night.run.run import reduce_night
from daskcal.simulate import simulate_night

SIZE = (192, 160)
EPS = float(np.finfo(np.float32).eps)
ULPS = 3
LOW_FLAT = 64

pytestmark = pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")

# The seeds' clipping, for all masters. No saturation flags: the seeds have none.
SEEDS = """
[combine.{kind}]
method = "average"
reject = "sigma"
low = 5.0
high = 5.0
center = "median"
spread = "mad_std"
maxiters = 1
sigma_floor = 0.0
"""

CLIP = {
    "method": "average",
    "sigma_clip": True,
    "sigma_clip_low_thresh": 5,
    "sigma_clip_high_thresh": 5,
    "sigma_clip_func": np.ma.median,
    "sigma_clip_dev_func": mad_std,
}


@dataclass
class Expected:
    """One image by ccdproc, in float64; `largest` is the largest |value| each pixel had."""

    image: np.ndarray
    largest: np.ndarray
    n_used: np.ndarray | None = None
    n_low: np.ndarray | None = None
    n_high: np.ndarray | None = None
    undecided: np.ndarray | None = None
    low_flat: np.ndarray | None = None


@dataclass
class Recipe:
    """What the five documents do by hand for one camera."""

    raw: Path
    overscan: slice | None
    trim: slice
    subtract_bias: bool
    scale_dark: bool
    masters: dict[str, Expected] = field(default_factory=dict)
    science: dict[str, Expected] = field(default_factory=dict)
    calibrated: dict[str, list[str]] = field(default_factory=dict)

    def read(self, imagetyp: str, **wanted: object) -> list[CCDData]:
        found = []
        for path in sorted(self.raw.iterdir()):
            ccd = CCDData.read(path, unit="adu")
            if ccd.header["IMAGETYP"] == imagetyp and all(
                ccd.header[key] == value for key, value in wanted.items()
            ):
                ccd.header["file"] = path.name
                found.append(ccd)
        assert found, f"no {imagetyp} {wanted}"
        return found

    def cut(self, ccd: CCDData) -> tuple[CCDData, np.ndarray]:
        """Overscan and trim; and the largest value of each pixel so far."""
        raw = ccd
        if self.overscan is not None:
            ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, self.overscan], median=True)
        ccd = ccdproc.trim_image(ccd[:, self.trim])
        return ccd, np.abs(raw.data[:, self.trim]).astype(float)

    def minus_bias(self, ccd: CCDData, largest: np.ndarray) -> tuple[CCDData, np.ndarray]:
        bias = self.masters["bias"]
        ccd = ccdproc.subtract_bias(ccd, CCDData(bias.image, unit="adu"))
        return ccd, _largest(largest, bias.largest, ccd.data)

    def minus_dark(self, ccd: CCDData, largest: np.ndarray) -> tuple[CCDData, np.ndarray]:
        """The seeds' find_nearest_dark_exposure and subtract_dark."""
        times = {float(name[5:-1]): name for name in self.masters if name.startswith("dark")}
        nearest = min(times, key=lambda time: abs(time - ccd.header["exptime"]))
        assert self.scale_dark or abs(nearest - ccd.header["exptime"]) < 0.5
        dark = self.masters[times[nearest]]
        done = ccdproc.subtract_dark(
            ccd,
            CCDData(dark.image, unit="adu", header={"exptime": nearest}),
            exposure_time="exptime",
            exposure_unit=u.second,
            scale=self.scale_dark,
        )
        factor = ccd.header["exptime"] / nearest if self.scale_dark else 1.0
        return done, _largest(largest, factor * dark.largest, done.data)

    def calibrate(self, ccd: CCDData, *steps: str) -> tuple[CCDData, np.ndarray]:
        ccd, largest = self.cut(ccd)
        if self.subtract_bias and "bias" in steps:
            ccd, largest = self.minus_bias(ccd, largest)
        if "dark" in steps:
            ccd, largest = self.minus_dark(ccd, largest)
        return ccd, largest

    def make_master(self, name: str, raw: list[CCDData], *steps: str) -> None:
        """Biases and darks: by ccdproc.combine."""
        ccds, largest = zip(*[self.calibrate(ccd, *steps) for ccd in raw], strict=True)
        combined = ccdproc.combine(list(ccds), **CLIP)
        stack = np.array([ccd.data for ccd in ccds])
        self.masters[name] = Expected(
            combined.data, _largest(*largest), *_clipped(stack)[1:], _undecided(stack)
        )
        self.calibrated[name] = [ccd.header["file"] for ccd in raw]

    def make_flat(self, name: str, raw: list[CCDData]) -> None:
        """Flats: ccdproc clips before it scales, so that here numpy scales first, in float64."""
        ccds, largest = zip(*[self.calibrate(ccd, "bias", "dark") for ccd in raw], strict=True)
        scales = [1 / np.median(ccd.data) for ccd in ccds]  # the seeds' inv_median
        stack = np.array([ccd.data * scale for ccd, scale in zip(ccds, scales, strict=True)])
        kept, *counts = _clipped(stack)
        scaled = [large * scale for large, scale in zip(largest, scales, strict=True)]
        self.masters[name] = Expected(
            np.ma.mean(kept, axis=0).data, _largest(*scaled), *counts, _undecided(stack)
        )
        self.calibrated[name] = [ccd.header["file"] for ccd in raw]

    def make_science(self, ccd: CCDData, flat_name: str) -> None:
        ccd, largest = self.calibrate(ccd, "bias", "dark")
        flat = self.masters[flat_name]
        # ccdproc divides by the mean of all the flat's pixels, those of no light included. Only
        # that convention is put aside: daskcal's is the mean of what is finite and above 0.
        norm = float(flat.image[flat.image > 0].mean())
        with np.errstate(divide="ignore", invalid="ignore"):
            done = ccdproc.flat_correct(ccd, CCDData(flat.image, unit="adu"), norm_value=norm)
            flat_share = np.abs(flat.largest / flat.image)  # how much the flat's rounding counts
            largest = np.abs(done.data) * (1 + flat_share) + largest * norm / np.abs(flat.image)
        self.science[Path(ccd.header["file"]).stem] = Expected(
            done.data,
            largest,
            undecided=flat.undecided,
            low_flat=~(flat.image / norm >= 0.1),  # the config's default min_value
        )


def _largest(*values: np.ndarray) -> np.ndarray:
    return np.max(np.abs(np.broadcast_arrays(*values)), axis=0)


def _clipped(stack: np.ndarray) -> tuple[np.ma.MaskedArray, np.ndarray, np.ndarray, np.ndarray]:
    """The survivors of astropy's sigma_clip; how many there are, and were lost low and high."""
    kept = sigma_clip(stack, sigma=5, maxiters=1, cenfunc=np.ma.median, stdfunc=mad_std, axis=0)
    lost = np.ma.getmaskarray(kept)
    below = stack < np.median(stack, axis=0)
    return kept, (~lost).sum(0), (lost & below).sum(0), (lost & ~below).sum(0)


def _undecided(stack: np.ndarray) -> np.ndarray:
    """Pixels with a value so near its bound that rounding to float32 decides whether it stays."""
    centre = np.median(stack, axis=0)
    bound = 5 * mad_std(stack, axis=0)
    # both ends of two differences of rounded values, one of them times 5 · 1.4826
    rounding = 2 * (1 + 5 * 1.4826) * EPS * np.abs(stack).max(axis=0)
    exact = (stack == np.rint(stack)).all(axis=0)  # whole numbers are not rounded
    margin = np.abs(np.abs(stack - centre) - bound).min(axis=0)
    return (margin <= rounding) & ~exact


@dataclass
class Case:
    """A camera's night, reduced, and what ccdproc makes of it."""

    expected: Recipe
    output: Path
    ledger: Ledger

    def product(self, name: str) -> dict[str, np.ndarray]:
        with fits.open(self.output / name, memmap=False) as hdus:
            return {hdu.name: np.array(hdu.data) for hdu in hdus}


def _lfc(raw: Path) -> Recipe:
    """Example 1: overscan used, darks keep their bias and are not scaled, the bias is not used."""
    recipe = Recipe(raw, slice(SIZE[1] + 7, None), slice(None, SIZE[1]), False, False)
    recipe.make_master("bias", recipe.read("BIAS"))
    for time in (7, 70, 300):
        recipe.make_master(f"dark_{time}s", recipe.read("DARK", EXPTIME=time))
    for letter in "gi":
        recipe.make_flat(f"flat_{letter}", recipe.read("FLATFIELD", FILTER=letter + "'"))
        for ccd in recipe.read("OBJECT", FILTER=letter + "'"):
            recipe.make_science(ccd, f"flat_{letter}")
    return recipe


def _aspen(raw: Path) -> Recipe:
    """Example 2: no overscan, bias off everything (its walk-through, not its loop), dark scaled."""
    recipe = Recipe(raw, None, slice(None, SIZE[1]), True, True)
    recipe.make_master("bias", recipe.read("BIAS"))
    recipe.make_master("dark_90s", recipe.read("DARK"), "bias")
    recipe.make_flat("flat_r", recipe.read("FLAT"))
    for ccd in recipe.read("LIGHT"):
        recipe.make_science(ccd, "flat_r")
    return recipe


@pytest.fixture(scope="module", params=["lfc", "aspen-cg16m"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("seeds")
    night = simulate_night(base, request.param, size=SIZE, seed=11)
    text = night.config.read_text()
    kept = [line for line in text.splitlines() if not line.startswith("saturation")]
    assert len(kept) == len(text.splitlines()) - 1
    night.config.write_text(
        "\n".join(kept) + "".join(SEEDS.format(kind=kind) for kind in ("bias", "dark", "flat"))
    )
    ledger = reduce_night(night.folder, base / "out", night.config, keep_calibrated=True)
    assert all(product.status == "made" for product in ledger.products)
    expected = {"lfc": _lfc, "aspen-cg16m": _aspen}[request.param](night.folder)
    return Case(expected, base / "out", ledger)


def _ulps(image: np.ndarray, expected: Expected, where: np.ndarray) -> float:
    """The largest difference, in ulp of the largest value that the pixel had."""
    difference = np.abs(image.astype(float) - expected.image)[where]
    return float((difference / (EPS * expected.largest[where])).max())


def test_the_same_products(case: Case) -> None:
    products = [p for p in case.ledger.products if not p.name.startswith("calibrated/")]
    made = {product.name for product in products}
    expected = {f"masters/{name}.fits" for name in case.expected.masters}
    assert made == expected | {f"science/{stem}.fits" for stem in case.expected.science}
    used = {product.name for product in products if product.used}
    unused = set() if case.expected.subtract_bias else {"masters/bias.fits"}
    assert made - used == unused


def test_masters(case: Case) -> None:
    for name, expected in case.expected.masters.items():
        planes = case.product(f"masters/{name}.fits")
        assert expected.undecided is not None
        decided = ~expected.undecided
        assert decided.mean() > 0.9995, name
        assert (expected.n_low + expected.n_high).sum() > 100, "nothing was clipped"
        np.testing.assert_array_equal(
            planes["NUSED"][decided], expected.n_used[decided], err_msg=name
        )
        assert not planes["MASK"].any(), name
        assert _ulps(planes["PRIMARY"], expected, decided) <= ULPS, name


def test_what_was_clipped(case: Case) -> None:
    """The values that are lost, on either side, from the calibrated frames that `reduce` kept."""
    for name, expected in case.expected.masters.items():
        files = [
            case.output / "calibrated" / f"{Path(file).stem}.fits"
            for file in case.expected.calibrated[name]
        ]
        ccds = [CCDData(fits.getdata(file).astype(np.float32), unit="adu") for file in files]
        combined = daskcal.combine(
            daskcal.from_ccddata(ccds),
            low=5,
            high=5,
            maxiters=1,
            sigma_floor=0,
            scale="median" if name.startswith("flat") else None,
        ).compute()
        decided = ~expected.undecided
        for plane in ("n_used", "n_low", "n_high"):
            np.testing.assert_array_equal(
                combined[plane].values[decided],
                getattr(expected, plane)[decided],
                f"{name} {plane}",
            )
        master = case.product(f"masters/{name}.fits")["PRIMARY"]
        np.testing.assert_array_equal(combined["image"].values, master, err_msg=name)


def test_science(case: Case) -> None:
    for stem, expected in case.expected.science.items():
        planes = case.product(f"science/{stem}.fits")
        low = (planes["MASK"] & LOW_FLAT) != 0
        np.testing.assert_array_equal(low, expected.low_flat, err_msg=stem)
        assert np.isnan(planes["PRIMARY"][low]).all()
        compared = ~low & ~expected.undecided
        assert compared.mean() > 0.97, stem
        assert _ulps(planes["PRIMARY"], expected, compared) <= ULPS, stem


def test_overscan_rows_end_as_low_flat(case: Case) -> None:
    """Example 1: the rows across the top stay in the frame, and see no light."""
    top = 2 if case.expected.overscan is not None else 0
    for stem, expected in case.expected.science.items():
        mask = case.product(f"science/{stem}.fits")["MASK"]
        assert mask.shape == expected.image.shape == SIZE
        assert ((mask[SIZE[0] - top :] & LOW_FLAT) != 0).all()

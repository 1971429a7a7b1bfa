"""Nights of real frames through the command line, a config each, and what they must come out as."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS, FITSFixedWarning
from click.testing import CliRunner

from daskcal.cli import main
from daskcal.night.ledger import Ledger, ProductEntry, read_ledger

HERE = Path(__file__).parent
SETS = {
    "lowell": "lowell_hall42_5945",
    "tircam2": "dot_tircam2_nir",
    "st7": "uoft_st7_darks",
    "kast": "lick_kast_2amp",
}


@dataclass
class Night:
    """A reduced night: where it lies, what was said, and its ledger."""

    raw: Path
    output: Path
    text: str
    exit_code: int
    ledger: Ledger

    def image(self, name: str, hdu: int | str = 0) -> np.ndarray:
        data = fits.getdata(self.output / name, hdu)
        return data.astype(data.dtype.newbyteorder("="))

    def product(self, name: str) -> ProductEntry:
        return next(product for product in self.ledger.products if product.name == name)

    @property
    def names(self) -> set[str]:
        """Masters and science frames."""
        names = {product.name for product in self.ledger.products}
        return {name for name in names if not name.startswith("calibrated/")}

    def skipped(self) -> dict[str, str]:
        return {f.path: f.reason for f in self.ledger.frames if f.status == "skipped"}


def run(raw: Path, output: Path, config: Path, *options: str) -> Night:
    """`daskcal reduce` as a user calls it."""
    arguments = ["reduce", str(raw), "-o", str(output), "-c", str(config), *options]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    ledger = read_ledger(output / "night.json")
    return Night(raw, output, result.output, result.exit_code, ledger)


@pytest.fixture(scope="module")
def nights(
    realdata: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Night]:
    """`nights(name)`: one of `SETS`, reduced once."""
    done: dict[str, Night] = {}

    def reduced(name: str) -> Night:
        if name not in done:
            raw, output = realdata(SETS[name]), tmp_path_factory.mktemp(name)
            keep = ["--keep-calibrated"] if name == "lowell" else []
            done[name] = run(raw, output, HERE / f"{name}.toml", *keep)
        return done[name]

    return reduced


# --- any night ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_products_open(nights: Callable[[str], Night], name: str) -> None:
    night = nights(name)
    assert {product.status for product in night.ledger.products} == {"made"}
    for product in night.names:
        with warnings.catch_warnings():
            # what the telescopes wrote of dates and coordinates
            warnings.simplefilter("ignore", FITSFixedWarning)
            ccd = CCDData.read(night.output / product)
        assert ccd.data.dtype.newbyteorder("=") == np.float32
        assert ccd.mask is not None
        assert ccd.mask.mean() < 0.2, product
        assert np.isfinite(ccd.data[~ccd.mask]).all(), product
        if ccd.uncertainty is not None:
            # NaN where one frame says nothing of its scatter, 0 where integers happen to be equal
            assert not (ccd.uncertainty.array < 0).any(), product


@pytest.mark.parametrize("name", SETS)
def test_gates_are_quiet(nights: Callable[[str], Night], name: str) -> None:
    """But for Lowell's read noise, which is not the header's."""
    gates = nights(name).ledger.gates
    assert [g.name for g in gates if g.verdict != "pass"] == ["read_noise"] * (name == "lowell")
    assert max((g.value for g in gates if g.name == "outliers"), default=0) < 0.002
    for gate in gates:
        if gate.name == "frame_level":
            assert abs(gate.value) < 0.4 * gate.high


def test_frames_that_jump_are_named(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    """Of TIRCAM2's frames most jump in level: no majority is sound, and the gates only warn."""
    lines = (HERE / "tircam2.toml").read_text().splitlines()
    config = tmp_path / "all.toml"
    config.write_text("\n".join(line for line in lines if not line.startswith("exclude")))
    night = run(realdata(SETS["tircam2"]), tmp_path / "out", config)
    assert {g.verdict for g in night.ledger.gates} == {"pass", "warn"}
    found = {g.frame for g in night.ledger.gates if g.verdict == "warn"}
    assert found >= {"bias_1.fits", "bias_2.fits", "bias_3.fits"}
    assert any(name.startswith("flats") for name in found)
    assert "no majority" in night.text


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
@pytest.mark.parametrize("name", SETS)
def test_products_are_fitsverify_clean(nights: Callable[[str], Night], name: str) -> None:
    night = nights(name)
    files = [str(night.output / product) for product in sorted(night.names)]
    result = subprocess.run(["fitsverify", "-q", *files], capture_output=True, text=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("verification")]
    assert len(lines) == len(files), result.stdout
    for line in lines:
        # warnings are of cards as the telescopes wrote them: EPOCH, a keyword given twice
        assert line.startswith("verification OK") or line.endswith(" and 0 errors"), line


@pytest.mark.parametrize("name", SETS)
def test_report_names_every_product(nights: Callable[[str], Night], name: str) -> None:
    night = nights(name)
    html = (night.output / "report" / "index.html").read_text()
    for product in night.names:
        assert product in html or Path(product).name in html, product


@pytest.mark.parametrize("name", SETS)
def test_every_frame_is_accounted_for(nights: Callable[[str], Night], name: str) -> None:
    night = nights(name)
    raw = [path for path in night.raw.rglob("*") if path.is_file() and path.name != "SOURCE.txt"]
    counts = night.ledger.counts()
    assert counts.found == len(raw) == counts.used + counts.skipped + counts.failed
    assert counts.failed == 0
    assert night.exit_code == (3 if counts.skipped else 0)
    for path in night.skipped():
        assert Path(path).name in night.text


# --- Lowell: overscan, bias, sky flats ----------------------------------------------------------


LOWELL_SCIENCE = ("20190326.0126", "20190326.0146", "20190326.0147")


def test_lowell_v_flat_stays_apart(nights: Callable[[str], Night]) -> None:
    night = nights("lowell")
    assert night.names == {
        "masters/bias.fits", "masters/flat_V.fits", "masters/flat_VR.fits",
        *(f"science/{name}.fits" for name in LOWELL_SCIENCE),
    }  # fmt: skip
    counts = {name: fits.getval(night.output / name, "NCOMBINE") for name in night.names
              if name.startswith("masters/")}  # fmt: skip
    assert counts == {"masters/bias.fits": 8, "masters/flat_V.fits": 1, "masters/flat_VR.fits": 7}
    for name in LOWELL_SCIENCE:
        masters = set(night.product(f"science/{name}.fits").masters)
        assert masters == {"masters/bias.fits", "masters/flat_VR.fits"}


def test_lowell_read_noise(nights: Callable[[str], Night]) -> None:
    night = nights("lowell")
    files = sorted((night.output / "calibrated").glob("20190326.000*.fits"))
    assert len(files) == 8
    frames = [fits.getdata(file).astype(float) for file in files]
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        assert clipped_std(second - first) / np.sqrt(2) == pytest.approx(1.15, abs=0.1)
    (message,) = [text for text in night.ledger.messages if "read noise" in text]
    for word in ("9.3 electron", "4.95 electron/adu", "1.88 adu", "disagrees"):
        assert word in message
    assert message in night.text


def clipped_std(values: np.ndarray) -> float:
    """Standard deviation within 5 of its own, until nothing changes."""
    values = values.ravel()
    while True:
        kept = values[np.abs(values - np.median(values)) <= 5 * values.std()]
        if kept.size == values.size:
            return float(values.std())
        values = kept


@pytest.mark.parametrize("name", LOWELL_SCIENCE)
def test_lowell_science_is_flatter(nights: Callable[[str], Night], name: str) -> None:
    """Against the same frame with only the overscan level off, and trimmed."""
    night = nights("lowell")
    raw = fits.getdata(night.raw / "5945" / f"{name}.fits").astype(float)
    before = (raw - np.median(raw[:, 1387:1431], axis=1, keepdims=True))[:, 17:1382]
    after = night.image(f"science/{name}.fits").astype(float)
    after[night.image(f"science/{name}.fits", "MASK") != 0] = np.nan
    assert unevenness(before) / unevenness(after) >= 5


def unevenness(image: np.ndarray, size: int = 64) -> float:
    """rms / median of the medians of blocks that are at least half unmasked."""
    rows, columns = (n // size for n in image.shape)
    blocks = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    blocks = blocks.swapaxes(1, 2).reshape(rows * columns, -1)
    medians = np.array([np.nanmedian(b) for b in blocks if np.isfinite(b).mean() >= 0.5])
    assert medians.size > 0.95 * rows * columns
    return float(medians.std() / np.median(medians))


def with_numbers(header: fits.Header) -> fits.Header:
    """The header with numbers where its coordinate cards are text (so FITS does not allow them)."""
    header = header.copy()
    for key in header:
        if key.startswith(("CRPIX", "CRVAL", "CD1_", "CD2_", "PV", "EQUINOX")):
            header[key] = float(header[key])
    return header


def test_lowell_sky_position_stays(nights: Callable[[str], Night]) -> None:
    """TAN with PV terms: a star's pixel has the same sky position before and after the trim."""
    night = nights("lowell")
    for name in LOWELL_SCIENCE:
        before = with_numbers(fits.getheader(night.raw / "5945" / f"{name}.fits"))
        after = fits.getheader(night.output / "science" / f"{name}.fits")
        assert (before["NAXIS1"], after["NAXIS1"]) == (1432, 1365)
        assert len(after["PV*"]) == 20
        image = night.image(f"science/{name}.fits")
        image[night.image(f"science/{name}.fits", "MASK") != 0] = -np.inf
        y, x = np.unravel_index(np.argmax(image), image.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            raw, product = WCS(before), WCS(after)
        for row, column in ((y, x), (0, 0), (1369, 1364)):
            there = raw.all_pix2world(column + 17, row, 0)
            here = product.all_pix2world(column, row, 0)
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-9)  # degrees: 4 µarcsec


@pytest.mark.parametrize(
    ("model", "limit"),
    [("", 0.0), ('model = "legendre"\norder = 3\n', 0.02)],  # adu; the read noise is 1.15
    ids=["rows", "fitted"],
)
def test_lowell_bad_overscan_does_not_leak(
    realdata: Callable[[str], Path], tmp_path: Path, model: str, limit: float
) -> None:
    """Row 0 and the last column are bad: other rows do not depend on what is in their overscan."""
    source = realdata(SETS["lowell"])
    config = tmp_path / "lowell.toml"
    text = (HERE / "lowell.toml").read_text().replace("[overscan]\n", f"[overscan]\n{model}")
    config.write_text(text)
    names = ("zero/20190326.0001.fits", "zero/20190326.0002.fits", "5945/20190326.0146.fits")
    made = []
    for value in (None, 0, 60_000):
        raw = tmp_path / f"raw_{value}"
        raw.mkdir()
        for name in names:
            with fits.open(source / name, memmap=False) as hdus:
                if value is not None:
                    hdus[0].data[0, 1387:] = value
                    hdus[0].data[:, -1] = value
                hdus.writeto(raw / Path(name).name)
        night = run(raw, tmp_path / f"out_{value}", config)
        made.append([night.image(f"{name}.fits")
                     for name in ("masters/bias", "science/20190326.0146")])  # fmt: skip
    for planes in made[1:]:
        for plane, untouched in zip(planes, made[0], strict=True):
            np.testing.assert_allclose(plane[30:], untouched[30:], rtol=0, atol=limit)
    # the overscan lies 1 adu below the bias; the last column alone would make that 16
    assert np.median(made[0][0][30:]) == pytest.approx(1, abs=0.6)


# --- TIRCAM2: types by file name ----------------------------------------------------------------


def test_tircam2(nights: Callable[[str], Night]) -> None:
    night = nights("tircam2")
    assert night.names == {
        "masters/bias.fits", "masters/flat_J.fits",
        *(f"science/IC310_{i}.fits" for i in range(1, 6)),
    }  # fmt: skip
    flat = night.image("masters/flat_J.fits")
    unmasked = flat[night.image("masters/flat_J.fits", "MASK") == 0]
    assert unmasked.size > 0.99 * flat.size
    assert (np.isfinite(unmasked) & (unmasked > 0)).mean() > 0.999
    types = {Path(frame.path).stem: (frame.imagetyp, frame.exptime, frame.filter)
             for frame in night.ledger.frames}  # fmt: skip
    assert types["bias_1"] == ("bias", 0.0, "BLOCK")
    assert types["flats01"] == ("flat", 6.0, "J")
    assert types["IC310_5"] == ("science", 40.0, "J")


def test_tircam2_frames_left_out(nights: Callable[[str], Night]) -> None:
    """Frames whose level jumps: the config leaves them out, the ledger says so."""
    night = nights("tircam2")
    left_out = {"bias_1.fits", "bias_2.fits", *(f"flats0{i}.fits" for i in range(2, 6))}
    assert set(night.skipped()) == left_out
    assert all("exclude" in reason for reason in night.skipped().values())
    image = night.image("science/IC310_3.fits")
    levels = [np.nanmedian(image[row : row + 24]) for row in range(24, 504, 24)]
    assert np.abs(np.diff(levels)).max() < 20  # the galaxy's own slope; a jump is 30 or more


# --- ST-7: darks of each exposure ---------------------------------------------------------------


def test_st7(nights: Callable[[str], Night]) -> None:
    night = nights("st7")
    science = ("EnifSpec", "NaviSpec", "NeonCalibration", "ScheatSpec", "Vega")
    darks = {"120": 6, "300": 5, "600": 1, "900": 5}
    assert night.names == {
        *(f"masters/dark_{time}s.fits" for time in darks),
        *(f"science/{name}.fits" for name in (*science, "Flat-003F600s")),
    }
    for time, count in darks.items():
        assert fits.getval(night.output / f"masters/dark_{time}s.fits", "NCOMBINE") == count
    for name in science:
        assert night.product(f"science/{name}.fits").masters == ("masters/dark_120s.fits",)
        # beside the spectrum only scattered light is left of the level of 890 adu
        image = night.image(f"science/{name}.fits")
        assert abs(np.median(image[-100:, 400:])) < 50, name
    assert night.product("science/Flat-003F600s.fits").masters == ("masters/dark_600s.fits",)


def test_st7_duplicate(nights: Callable[[str], Night]) -> None:
    ((path, reason),) = nights("st7").skipped().items()
    pair = {"DarkBefore-007D120s.fit", "DarkBefore-007D120s (1).fit"}
    assert Path(path).name in pair
    (other,) = pair - {Path(path).name}
    assert reason.startswith("the same bytes as")
    assert reason.endswith(other)


# --- Kast: biases by rule, gzip -----------------------------------------------------------------


def test_kast(nights: Callable[[str], Night]) -> None:
    night = nights("kast")
    assert night.names == {
        "masters/bias.fits", "masters/flat.fits", "science/b24.fits", "science/b27.fits"
    }  # fmt: skip
    inputs = {name: {given.path for given in night.product(name).inputs if given.role == "frame"}
              for name in ("masters/bias.fits", "masters/flat.fits")}  # fmt: skip
    assert inputs["masters/bias.fits"] == {f"b2{i}.fits.gz" for i in (1, 2, 3)}
    assert inputs["masters/flat.fits"] == {f"b1{i}.fits.gz" for i in (1, 2, 3)}
    assert set(night.skipped()) == {"b1.fits.gz"}


def test_kast_step_between_amplifiers_goes(nights: Callable[[str], Night]) -> None:
    """22 adu between the halves; nothing of it is left in the bias, nor in the science."""
    night = nights("kast")
    assert abs(amplifier_step(night.image("masters/bias.fits"))) < 0.6
    for name in ("b24", "b27"):
        raw = fits.getdata(night.raw / f"{name}.fits.gz").astype(float)
        assert abs(amplifier_step(raw[:, :2048])) > 15
        # what is left is the slope of the spectrum
        assert abs(amplifier_step(night.image(f"science/{name}.fits"))) < 5


def test_kast_headers_describe_the_detector(nights: Callable[[str], Night]) -> None:
    night = nights("kast")
    for name in ("masters/bias.fits", "masters/flat.fits", "science/b27.fits"):
        header = fits.getheader(night.output / name)
        assert (header["NAXIS1"], header["NAXIS2"]) == (2048, 350)
        assert (header["LTV1"], header["LTV2"]) == (0, 0)
        assert header["GAIN"] == 1  # the index of a setting, left alone
        assert not {"DATASEC", "BIASSEC", "TRIMSEC"} & set(header)
    with fits.open(night.output / "science/b27.fits") as hdus:
        assert "UNCERT" in hdus


def amplifier_step(image: np.ndarray) -> float:
    """How far columns 1024 to 1033 lie above 1014 to 1023, away from the slit's ends."""
    return float(np.nanmedian(image[200:320, 1024:1034]) - np.nanmedian(image[200:320, 1014:1024]))

"""A simulated mosaic, 4 detectors × 4 amplifiers × 60 exposures, in one command, against its truth.

Amplifiers differ in gain, noise, bias level and non-linearity, and leak into each other. One
extension of one exposure was cut short. Over unmasked sky pixels mean(reduced - truth) is within
0.02 of mean(UNCERT) for each detector, 0.05 for each amplifier, and the ratio of their rms is in
0.97 to 1.03.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from mosaic_files import cut_data

from daskcal import reduce_night
from daskcal.cli import main
from daskcal.night.ledger import Ledger, read_ledger
from daskcal.simulate import load_truth, simulate_night

SIZE = (96, 96)
CHIPS = ("CCD1", "CCD2", "CCD3", "CCD4")
CUT = "ngc7789_r_004"
HOT_OR_DEAD, SATURATED = 3, 4


@dataclass(frozen=True)
class Chip:
    """The science frames of one detector less their truth, good sky alone: (frame, y, x)."""

    error: np.ndarray
    sigma: np.ndarray
    masked: np.ndarray
    planted: np.ndarray

    def quarters(self) -> list[tuple[slice, slice]]:
        """Where each amplifier lies."""
        y, x = SIZE[0] // 2, SIZE[1] // 2
        corners = [(0, 0), (0, x), (y, 0), (y, x)]
        return [(slice(y0, y0 + y), slice(x0, x0 + x)) for y0, x0 in corners]

    def mean(self, part: tuple[slice, ...] = ()) -> float:
        """Mean error in σ, within a part."""
        error, sigma = self.error[..., *part], self.sigma[..., *part]
        return float(np.nanmean(error) / np.nanmean(sigma))

    def rms(self, part: tuple[slice, ...] = ()) -> float:
        """The same of the squares."""
        error, sigma = self.error[..., *part], self.sigma[..., *part]
        return float(np.sqrt(np.nanmean(error**2) / np.nanmean(sigma**2)))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaic")
    made = simulate_night(folder, "mosaic", size=SIZE, seed=3)
    assert len(made.files) == 60
    cut_data(made.folder / f"{CUT}.fits", 2)
    config = folder / "mosaic.toml"
    command = f"reduce {shlex.quote(str(made.folder))} -o {folder / 'out'} -c {config}"
    done = CliRunner().invoke(main, shlex.split(command))
    assert done.exit_code == 3, done.output  # all made but what was cut
    return folder


def chip(folder: Path, out: str, name: str) -> Chip:
    truth = load_truth(folder, name)
    error, sigmas, masked, planted = [], [], [], []
    for path in sorted((folder / out / "science").glob(f"*_{name}.fits")):
        with fits.open(path, memmap=False) as hdus:
            assert hdus[0].header["BUNIT"] == "electron"
            image, sigma = (hdus[i].data.astype(float) for i in (0, "UNCERT"))
            mask = hdus["MASK"].data
        good = truth.sky_pixels(path.name) & (mask == 0)
        error.append(np.where(good, image - truth.image(path.name), np.nan))
        sigmas.append(np.where(good, sigma, np.nan))
        masked.append(mask)
        planted.append(truth.mask(path.name))
    return Chip(*map(np.array, (error, sigmas, masked, planted)))


def test_the_extension_that_was_cut_is_the_only_loss(night: Path) -> None:
    ledger: Ledger = read_ledger(night / "out" / "night.json")
    counts = ledger.counts()
    assert (counts.found, counts.used, counts.failed) == (240, 239, 1)
    (lost,) = [entry for entry in ledger.frames if entry.status != "used"]
    assert (lost.path, lost.hdu) == (f"{CUT}.fits", 2)
    assert {product.status for product in ledger.products} == {"made"}
    science = {product.name for product in ledger.products if product.kind == "science"}
    wanted = {f"science/ngc7789_{f}_{n:03d}_{c}.fits" for f in "gr" for n in range(1, 11)
              for c in CHIPS}  # fmt: skip
    assert wanted - science == {f"science/{CUT}_CCD2.fits"}
    assert science < wanted
    masters = {product.name for product in ledger.products if product.kind not in ("science",)}
    kinds = ("bias", "dark_120s", "flat_g", "flat_r")
    assert masters == {f"masters/{kind}_{c}.fits" for kind in kinds for c in CHIPS}


@pytest.mark.parametrize("name", CHIPS)
def test_each_amplifier_is_true_within_its_uncertainty(night: Path, name: str) -> None:
    found = chip(night, "out", name)
    assert len(found.error) == (19 if name == "CCD2" else 20)
    assert abs(found.mean()) <= 0.02
    assert 0.97 <= found.rms() <= 1.03
    for quarter in found.quarters():
        assert abs(found.mean(quarter)) <= 0.05
        assert 0.97 <= found.rms(quarter) <= 1.03
    for plane in (HOT_OR_DEAD, SATURATED):
        planted = (found.planted & plane) != 0
        assert planted.sum() >= 10
        assert (found.masked[planted] != 0).mean() >= 0.99
    assert (found.masked[found.planted == 0] == 0).mean() >= 0.98


def test_amplifiers_do_not_join_without_their_curves(night: Path) -> None:
    """What the config says is needed: the test above sees it if it is left out."""
    config = night / "plain.toml"
    config.write_text("[output]\ngain_correct = true\n")
    select = "detector == 'CCD1' and filter != 'r'"
    reduce_night(night / "raw", night / "plain", config, select=select)
    found = chip(night, "plain", "CCD1")
    assert max(abs(found.mean(quarter)) for quarter in found.quarters()) > 0.1

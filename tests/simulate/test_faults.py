"""Faults that are planted in simulated nights: in the frames that were named, and in no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import ArgumentError
from daskcal.simulate import FAULTS, SimulatedNight, load_truth, simulate_night

PLANTED = {
    "warm": "n0201",
    "warm-untold": "n0202",
    "light-leak": "n0002",
    "cloud": "n030[12]",
    "no-light": "n0303",
    "saturated": "n0304",
    "filter": "n0305",
    "undefined": "n0003",
    "bit": "n0004",
    "truncated": "n0005",
    "duplicate": "n0006",
}
SIZE = (64, 80)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedNight, SimulatedNight]:
    """A night, and the same with every fault."""
    base = tmp_path_factory.mktemp("faults")
    whole = simulate_night(base / "good", size=SIZE)
    return whole, simulate_night(base / "bad", size=SIZE, faults=PLANTED)


def test_every_fault_is_planted_here() -> None:
    assert set(PLANTED) == set(FAULTS)


def test_other_frames_are_as_they_were(nights: tuple[SimulatedNight, SimulatedNight]) -> None:
    good, bad = nights
    faults = {f.file: f.fault for f in load_truth(bad.truth).frames}
    same = {path.name for path in good.files
            if path.read_bytes() == (bad.folder / path.name).read_bytes()}  # fmt: skip
    assert same == {name for name, fault in faults.items()
                    if fault in ("", "duplicate") and "copy" not in name}  # fmt: skip
    assert {path.name for path in bad.files} == set(faults)
    assert len(bad.files) == len(good.files) + 1
    assert {fault for fault in faults.values() if fault} == set(PLANTED)


def change(nights: tuple[SimulatedNight, SimulatedNight], name: str) -> np.ndarray:
    """How much brighter the faulty frame is, in electron over the imaging area."""
    good, bad = (fits.getdata(n.folder / name).astype(float)[:, 16:96] for n in nights)
    return (bad - good) * 1.4


def test_light_and_dark_current(nights: tuple[SimulatedNight, SimulatedNight]) -> None:
    _, bad = nights
    for name in ("n0201.fits", "n0202.fits"):  # 301.5 s of 0.05 electron/s, 7 times more
        assert np.median(change(nights, name)) == pytest.approx(7 * 0.05 * 301.5, rel=0.03)
    leak = change(nights, "n0002.fits").mean(axis=0)
    np.testing.assert_allclose(leak, np.linspace(200, 0, 80), atol=12)
    flats = [fits.getdata(bad.folder / f"n030{i}.fits")[:, 16:96] for i in (1, 2, 3, 4)]
    level = [np.median(flat) - 1000 for flat in flats]
    assert level[0] == pytest.approx(0.4 * 28000, rel=0.1)
    assert level[1] == pytest.approx(0.16 * 25500, rel=0.1)
    assert level[2] == pytest.approx(0, abs=15)  # the bias level drifts
    assert level[3] == 65535 - 1000


def test_headers(nights: tuple[SimulatedNight, SimulatedNight]) -> None:
    _, bad = nights
    cards = {path.stem: fits.getheader(path) for path in bad.files if "n0005" not in path.name}
    for stem, header in cards.items():
        warm = stem == "n0201"
        assert header["CCD-TEMP"] == pytest.approx(-2 if warm else -20, abs=0.1)
        assert (header.get("FILTER") == "Halpha-7") == (stem == "n0305")


def test_files(nights: tuple[SimulatedNight, SimulatedNight]) -> None:
    good, bad = nights
    copy = bad.folder / "n0006_copy.fits"
    assert copy.read_bytes() == (bad.folder / "n0006.fits").read_bytes()
    whole = (good.folder / "n0005.fits").stat().st_size
    assert (bad.folder / "n0005.fits").stat().st_size == int(0.6 * whole)
    assert np.isnan(fits.getdata(bad.folder / "n0003.fits")).all()
    with (
        pytest.warns(Warning, match="(Datasum|Checksum) verification failed"),
        fits.open(bad.folder / "n0004.fits", checksum=True) as hdus,
    ):
        difference = hdus[0].data.astype(int) - fits.getdata(good.folder / "n0004.fits")
    assert np.count_nonzero(difference) == 1


def test_a_night_with_copies_can_be_replaced(tmp_path: Path) -> None:
    simulate_night(tmp_path, size=(16, 16), faults={"duplicate": "n0001"})
    again = simulate_night(tmp_path, size=(16, 16), overwrite=True)
    assert not list(again.folder.glob("*copy*"))


def test_another_night_of_the_same_detector(tmp_path: Path) -> None:
    first = simulate_night(tmp_path / "a", size=SIZE)
    later = simulate_night(tmp_path / "b", size=SIZE, days=3)
    dates = [fits.getheader(n.files[0])["DATE-OBS"] for n in (first, later)]
    assert [date[8:10] for date in dates] == ["13", "16"]
    np.testing.assert_array_equal(load_truth(first.truth).dark(), load_truth(later.truth).dark())
    assert (fits.getdata(first.files[0]) != fits.getdata(later.files[0])).mean() > 0.8


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"faults": {"clouds": "n0301"}}, "did you mean 'cloud'"),
        ({"faults": {"warm": "n9*"}}, "no frame is called 'n9\\*'; the first is 'n0001'"),
        ({"faults": {"warm": "n0201", "bit": "n020*"}}, "n0201 has 'warm' already, and not 'bit'"),
        ({"camera": "mosaic", "faults": {"warm": "dark_001"}}, "not of 'mosaic'"),
        ({"days": -1}, "days=-1"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        simulate_night(tmp_path / "out", size=(16, 16), **given)
    assert not (tmp_path / "out").exists()

"""A week of simulated nights of two cameras: each fault is found, named, and costs only itself."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from daskcal.night.ledger import Ledger
from daskcal.night.run.run import reduce_night
from daskcal.simulate import simulate_night

# a library lends flats to the night that has none
LENT = "library" in inspect.signature(reduce_night).parameters
FEW: dict[str, Any] = {"n_bias": 5, "n_dark": 5, "n_flat": 4, "n_science": 1}
MOSAIC: dict[str, Any] = {"size": (64, 64), "n_bias": 4, "n_dark": 2, "n_flat": 3, "n_science": 1}
# what is wrong with each night, and what the ledger says of the frames that it costs
PLANTED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    (
        {"n_flat": 0},
        {} if LENT else dict.fromkeys(("n0321", "n0341", "n0421", "n0441"), "flat"),
    ),
    (
        {"faults": {"warm": "n0202", "warm-untold": "n0104"}},
        {"n0202": "gate temperature", "n0104": "gate frame_level"},
    ),
    ({"faults": {"light-leak": "n0003"}}, {"n0003": "gate frame_level"}),
    (
        {"faults": {"cloud": "n030[34]"}, "n_flat": 5},
        {"n0303": "gate outliers", "n0304": "gate outliers"},
    ),
    (
        {"faults": {"truncated": "n0302", "duplicate": "n0103", "bit": "n0002"}},
        {"n0302": "cut short", "n0103_copy": "the same bytes as", "n0002": "DATASUM"},
    ),
    (
        {"faults": {"filter": "n0321", "undefined": "n0004", "saturated": "n0402"}},
        {"n0321": "Halpha-7", "n0004": "gate undefined", "n0402": "gate saturated"},
    ),
]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of the nights, and a config for all; the mosaic is there in the first and last."""
    base, nights = tmp_path_factory.mktemp("week"), []
    for days, (given, _) in enumerate(PLANTED):
        folder = base / f"night{days}"
        ccd = simulate_night(base / f"ccd{days}", size=(96, 96), days=days, **{**FEW, **given})
        shutil.move(ccd.folder, folder / "ccd")
        if days % 6 == 0:
            mosaic = simulate_night(base / f"mosaic{days}", "mosaic", days=days, **MOSAIC)
            shutil.move(mosaic.folder, folder / "mosaic")
        nights.append(folder)
    (base / "config.toml").write_text(mosaic.config.read_text() + "\n[flat]\ncorrect = true\n")
    return nights


def reduced(night: Path, word: str, **options: Any) -> Ledger:
    out = night.parent / f"{night.name}_{word}"
    return reduce_night(night, out, night.parent / "config.toml", **options)


@pytest.fixture(scope="module")
def ledgers(week: list[Path]) -> list[Ledger]:
    """What one command a night says of each."""
    options = {"library": week[0].parent / "library"} if LENT else {}
    return [reduced(night, "reduced", **options) for night in week]


def pixels(out: Path) -> dict[str, list[tuple[str, str]]]:
    """SHA-256 of each plane of masters and science frames; headers tell what the night had."""
    found = {}
    for path in (path for part in ("masters", "science") for path in (out / part).iterdir()):
        with fits.open(path) as file:
            found[path.name] = [
                (hdu.name, hashlib.sha256(hdu.data.tobytes()).hexdigest()) for hdu in file
            ]
    return found


@pytest.mark.parametrize("days", range(len(PLANTED)))
def test_each_fault_is_found_and_named(ledgers: list[Ledger], days: int) -> None:
    ledger, expected = ledgers[days], PLANTED[days][1]
    counts = ledger.counts()
    assert counts.found == counts.used + counts.skipped + counts.failed
    lost = {Path(f.path).stem: f.reason for f in ledger.frames if f.status != "used"}
    assert sorted(lost) == sorted(expected)
    for stem, word in expected.items():
        assert word in lost[stem], lost[stem]
    science = {stem for stem in expected if stem[-2] in "24" and stem[2] in "34"}
    warned = [g for g in ledger.gates if g.verdict == "warn"]
    assert not warned
    rejected = {Path(g.frame).stem for g in ledger.gates if g.verdict == "reject"}
    assert rejected == {stem for stem, reason in lost.items() if reason.startswith("gate ")}
    made = {Path(p.name).stem for p in ledger.products if p.status == "made"}
    assert {Path(p.name).stem for p in ledger.products} - made == science
    assert ledger.exit_status() == (3 if lost else 0)


@pytest.mark.parametrize("days", [2, 3, 4])
@pytest.mark.usefixtures("ledgers")
def test_a_fault_costs_only_itself(week: list[Path], days: int) -> None:
    """Products are those of a night without the faulty frames, to the last bit."""
    globs = [f"{stem}.fits" for stem in PLANTED[days][1]]
    reduced(week[days], "without", exclude=globs)
    base = week[days].parent
    assert pixels(base / f"night{days}_without") == pixels(base / f"night{days}_reduced")

"""The guide's calls give by `daskcal.compat.ccdproc` what they give by ccdproc, on its two cameras.

The chapters are those of `guide`; each is run by both, in a folder of its own, and everything that
it looked at and wrote is compared. Means are summed in another order, which rounds to some 1e-13.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ccdproc
import guide
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

import daskcal.compat.ccdproc as compat
from daskcal.simulate import simulate_night

SIZE = (96, 80)
CAMERAS = {"lfc": guide.lfc, "aspen-cg16m": guide.aspen}
TOLERANCE = {"rtol": 1e-11, "atol": 1e-9}

pytestmark = pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")


@dataclass
class Night:
    """All chapters by one module."""

    reduced: Path
    seen: dict[str, guide.Seen]


def reduced_by(ccdp: ModuleType, raw: Path, camera: guide.Camera, reduced: Path) -> Night:
    reduced.mkdir()
    seen = {step.__name__: step(ccdp, raw, reduced, camera) for step in guide.CHAPTERS}
    return Night(reduced, seen)


@pytest.fixture(scope="module", params=CAMERAS)
def nights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Night, Night]:
    base = tmp_path_factory.mktemp("guide")
    raw = simulate_night(base, request.param, size=SIZE, seed=11).folder
    camera = CAMERAS[request.param](SIZE[1])
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of no light in the flats
        return tuple(
            reduced_by(module, raw, camera, base / module.__name__) for module in (compat, ccdproc)
        )


def assert_alike(found: Any, expected: Any) -> None:
    if isinstance(expected, CCDData):
        np.testing.assert_allclose(found.data, expected.data, **TOLERANCE)
        assert found.unit == expected.unit
    elif isinstance(expected, Table):
        assert found.colnames == expected.colnames
        assert [tuple(row) for row in found] == [tuple(row) for row in expected]
    elif isinstance(expected, list) and expected and isinstance(expected[0], float):
        np.testing.assert_allclose(found, expected, **TOLERANCE)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chapter", [step.__name__ for step in guide.CHAPTERS])
def test_what_a_chapter_looks_at(nights: tuple[Night, Night], chapter: str) -> None:
    found, expected = (night.seen[chapter] for night in nights)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_alike(found[name], value)


def test_what_they_write(nights: tuple[Night, Night]) -> None:
    """Values, uncertainties, masks, and headers with what each step says."""
    ours, theirs = (sorted(night.reduced.iterdir()) for night in nights)
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert len(ours) > 20
    for mine, expected in zip(ours, theirs, strict=True):
        with fits.open(mine) as found, fits.open(expected) as wanted:
            assert [hdu.name for hdu in found] == [hdu.name for hdu in wanted]
            for hdu, of_ccdproc in zip(found, wanted, strict=True):
                np.testing.assert_allclose(
                    hdu.data, of_ccdproc.data, **TOLERANCE, err_msg=f"{mine.name} {hdu.name}"
                )
            cards = dict(found[0].header)
            made = cards.pop("NCOMBINE", None)  # which ccdproc.combine leaves out
            assert (made is not None) == mine.name.startswith("combined")
            assert cards == dict(wanted[0].header), mine.name


def test_something_was_rejected(nights: tuple[Night, Night]) -> None:
    """Or the comparison would say nothing of the clipping."""
    for night in nights:
        files = compat.ImageFileCollection(night.reduced)
        plain = compat.combine(
            [
                path
                for path in files.files_filtered(imagetyp="bias", include_path=True)
                if "combined" not in path
            ]
        )
        clipped = night.seen["combine_biases"]["combined"]
        assert (plain.data != clipped.data).mean() > 0.01

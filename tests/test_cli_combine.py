"""``daskcal combine``: every option reaches `combine`, and misuse names the option."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from test_cli import run

import daskcal
from daskcal.cli import main
from daskcal.cli.combine import OF_REJECTIONS, REJECTIONS
from daskcal.combination import reject
from daskcal.combination.scale import STATISTICS
from daskcal.night.calibrate.recipes import combine_arguments
from daskcal.night.config import combine as config_combine


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three frames in electron, with what a noise model needs."""
    rng = np.random.default_rng(8)
    paths = []
    for i, level in enumerate((100, 200, 400)):
        header = fits.Header(
            {"IMAGETYP": "flat", "FILTER": "V", "EXPTIME": level / 10, "BUNIT": "electron",
             "RDNOISE": 4.0, "GAIN": 1.0}
        )  # fmt: skip
        image = rng.normal(level, 5, (12, 16)).astype("f4")
        paths.append(tmp_path / f"f{i}.fits")
        fits.PrimaryHDU(image, header).writeto(paths[-1])
    return paths


def combined(three: list[Path], *options: object) -> np.ndarray:
    out = three[0].parent / "out.fits"
    run("combine", *three, "-o", out, *options)
    return np.asarray(fits.getdata(out))


# --- one table for all ----------------------------------------------------------------------------


def test_the_names_are_those_of_combine() -> None:
    assert set(REJECTIONS) == set(reject.REJECTIONS)
    assert set(typing.get_args(config_combine.Rejections)) == set(reject.REJECTIONS)
    assert config_combine.STATISTICS == STATISTICS
    keywords = {
        name
        for name, parameter in inspect.signature(daskcal.combine).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(reject.KEYWORDS) == keywords


def test_every_option_of_a_rejection_has_one_on_the_command_line_and_in_the_config() -> None:
    options = {name for names in reject.OPTIONS.values() for name in names}
    assert set(OF_REJECTIONS) == options - {"n_low", "n_high"}
    command = main.commands["combine"]
    assert {p.name for p in command.params} >= set(OF_REJECTIONS)
    assert set(config_combine.Combine.model_fields) >= options


def test_the_defaults_of_a_config_are_those_of_combine() -> None:
    for name, kind in reject.REJECTIONS.items():
        given = combine_arguments(config_combine.Combine(reject=name))
        for option, value in given.items():
            if option in reject.OPTIONS[name]:
                assert value == getattr(kind(), option), (name, option)
        options = {word: value for word, value in given.items() if word not in reject.KEYWORDS}
        assert reject.rejection(name, options, 9) == kind()


# --- options --------------------------------------------------------------------------------------

OPTIONS: list[tuple[list[object], dict[str, Any]]] = [
    (["--method", "lower_median", "--reject", "none"], {"method": "lower_median", "reject": None}),
    (["--reject", "minmax", "--low", "0.4", "--high", "0"],
     {"reject": "minmax", "n_low": 0.4, "n_high": 0}),
    (["--scale", "median", "--low", "2", "--high", "inf"],
     {"scale": "median", "low": 2, "high": None}),
    (["--scale", "EXPTIME", "--zero", "mode", "--weights", "mean", "--section", "[2:9, :5]"],
     {"scale": "EXPTIME", "zero": "mode", "weights": "mean", "section": "[2:9, :5]"}),
    (["--scale", "mean", "--section", "fits [1:5,3:9]"],
     {"scale": "mean", "section": "fits [1:5,3:9]"}),
    (["--scale", "exptime", "--n-keep", 2, "--low", 0.5, "--high", 0.5, "--sigma-floor", 0],
     {"scale": "exptime", "n_keep": 2, "low": 0.5, "high": 0.5, "sigma_floor": 0}),
    (["--reject", "percentile", "--low", 0.4], {"reject": "percentile", "low": 0.4}),
    (["--reject", "winsorised", "--maxiters", 2], {"reject": "winsorised", "maxiters": 2}),
    (["--reject", "linear_fit", "--high", 2], {"reject": "linear_fit", "high": 2}),
    (["--reject", "esd", "--fraction", 0.4, "--significance", 0.2],
     {"reject": "esd", "fraction": 0.4, "significance": 0.2}),
    (["--reject", "averaged_sigma", "--center", "mean"],
     {"reject": "averaged_sigma", "center": "mean"}),
    (["--reject", "ccdclip", "--snoise", 0.1], {"reject": "ccdclip", "snoise": 0.1}),
    (["--reject", "crreject", "--high", 4, "--grow", 1.5],
     {"reject": "crreject", "high": 4, "grow": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "options"), OPTIONS)
def test_options_reach_combine(
    three: list[Path], given: list[object], options: dict[str, Any]
) -> None:
    expected = daskcal.combine(daskcal.open_frames(three), **options).image
    np.testing.assert_array_equal(combined(three, *given), expected)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--reject", "sigmaclip"], "--reject='sigmaclip' is not one of sigma, minmax"),
        (["--reject", "minmax", "--low", "1.5"], "--low 1.5 should be a whole number or a"),
        (["--reject", "minmax", "--high", "-1"], "--high -1 should be a whole number"),
        (["--reject", "esd", "--low", "3"], "--low is not for --reject esd, but sigma, percentile"),
        (["--reject", "crreject", "--low", "3"], "--low is not for --reject crreject"),
        (["--spread", "std", "--reject", "winsorised"], "--spread is not for --reject winsorised"),
        (["--fraction", "0.1"], "--fraction is not for --reject sigma, but esd"),
        (["--n-keep", "1", "--reject", "minmax"], "--n-keep is not for --reject minmax"),
        (["--scale", "medain"], "did you mean 'median'?"),
        (["--zero", "exptimes"], "did you mean 'exptime'?"),
        (["--weights", "mode", "--method", "median"], "weights are for method='average'"),
        (["--weights", "inverse_variance"], "needs the variance of the frames"),
        (["--reject", "variance"], "needs the variance of the frames"),
        (["--section", "[:2, :]"], "none is asked for"),
        (["--n-keep", "4"], "n_keep=4 is more than there are frames"),
        (["--grow", "-1"], "grow=-1"),
        (["--significance", "2", "--reject", "esd"], "between 0 and 1"),
    ],
)  # fmt: skip
def test_misuse_names_the_option(three: list[Path], given: list[str], says: str) -> None:
    out = three[0].parent / "out.fits"
    result = run("combine", *three, "-o", out, *given, status=2)
    assert says in result.stderr
    assert not out.exists()


def test_a_section_outside_of_the_frames(three: list[Path]) -> None:
    out = three[0].parent / "out.fits"
    result = run("combine", *three, "-o", out, "--scale", "mean", "--section", "[:99, :]", status=1)
    assert "leaves the image" in result.stderr


# --- notes ----------------------------------------------------------------------------------------


def test_an_odd_mix_is_said_and_combined(three: list[Path]) -> None:
    with fits.open(three[1], mode="update") as hdus:
        hdus[0].header["FILTER"] = "R"
    out = three[0].parent / "out.fits"
    result = run("combine", *three, three[2], "-o", out)
    assert "Note: frames of different filters are combined: R, V" in result.stderr
    assert "3 frames combined" in result.stdout  # a file that is given twice counts once
    with fits.open(three[1], mode="update") as hdus:
        hdus[0].header["IMAGETYP"] = "dark"
    result = run("combine", *three, "-o", out)
    assert "Note: frames of different types are combined: dark, flat" in result.stderr


def test_darks_may_have_any_filter(three: list[Path]) -> None:
    for path, name in zip(three, "BVR", strict=True):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update({"IMAGETYP": "dark", "FILTER": name})
    result = run("combine", *three, "-o", three[0].parent / "out.fits")
    assert "Note: frames" not in result.stderr

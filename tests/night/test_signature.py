"""A night whose config says what the camera's electronics, shutter and optics do to its frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_night
from astropy.io import fits

from daskcal.errors import ConfigError
from daskcal.night.config.read import load_config
from daskcal.night.run.run import reduce_night

TEXT = """
[instrument]
saturation = 60000
bias_level = 1000
[saturation]
bleed = 3
[linearity]
coefficients = [1e-6]
limit = 25000
[shutter]
map = "shutter.fits"
[illumination.frames]
V = "sky_V.fits"
[fringe]
scale = 0.5
[fringe.frames]
B = "fringe_B.fits"
"""


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """The config, with the images that it names beside it."""
    folder = tmp_path / "camera"
    folder.mkdir()
    y, x = np.mgrid[: small_night.SHAPE[0], : small_night.SHAPE[1]]
    images = {"shutter": (0.1 + 0.01 * y, "s"), "sky_V": (1 + 0.002 * x, ""),
              "fringe_B": (5 * np.sin(x), "adu")}  # fmt: skip
    for name, (image, unit) in images.items():
        header = fits.Header({"BUNIT": unit} if unit else {})
        fits.writeto(folder / f"{name}.fits", image.astype("f4"), header)
    (folder / "camera.toml").write_text(TEXT, encoding="utf-8")
    return folder / "camera.toml"


def test_each_frame_gets_the_steps_that_are_for_it(tmp_path: Path, camera: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    ledger = reduce_night(raw, tmp_path / "out", camera)
    assert ledger.exit_status() == 0
    record = json.loads((tmp_path / "out" / "night.json").read_text())
    done = {
        product["name"]: [step["step"] for step in product["parameters"]["steps"]]
        for product in record["products"]
    }
    first = ["flag_saturated", "flag_bleed", "correct_linearity"]
    science = [*first, "subtract_bias", "create_variance", "subtract_dark", "flag_hot"]
    assert done["masters/bias.fits"][:3] == first
    assert "shutter_correct" not in done["masters/dark_60s.fits"]
    flat = done["masters/flat_V.fits"]
    assert flat.index("shutter_correct") > flat.index("subtract_bias")
    assert done["science/m67_V_0.fits"] == [
        *science, "shutter_correct", "flat_correct", "illumination_correct",
    ]  # fmt: skip
    assert done["science/m67_B_0.fits"] == [
        *science, "shutter_correct", "flat_correct", "subtract_fringe",
    ]  # fmt: skip


def test_a_night_of_a_detector_with_amplifiers(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(
        """
[instrument]
bias_level = 1000
[[instrument.amplifiers]]
name = "L"
data_section = "[1:16,*]"
detector_section = "[1:16,*]"
[[instrument.amplifiers]]
name = "R"
data_section = "[17:32,*]"
detector_section = "[17:32,*]"
[crosstalk]
matrix = [[0, 1e-3], [1e-3, 0]]
[linearity.amplifier_coefficients]
L = [1e-6]
R = [2e-6]
[gain_ratios.ratios]
L = 1.0
R = 1.02
""",
        encoding="utf-8",
    )
    raw = small_night.make(tmp_path / "raw", dark=0, science=1)
    ledger = reduce_night(raw, tmp_path / "out", path)
    assert ledger.exit_status() == 0
    found = {product.name: product.parameters["steps"] for product in ledger.products}
    for steps in found.values():
        chosen = [step for step in steps if step["step"] not in ("flag_saturated", "trim_image")]
        names = ["correct_crosstalk", "correct_linearity", "equalise_gains"]
        assert [step["step"] for step in chosen[:3]] == names
        assert chosen[0]["matrix"] == [[0, 1e-3], [1e-3, 0]]
        assert chosen[2]["ratios"] == [1.0, 1.02]


def test_a_bias_without_overscan_or_level_is_linear(tmp_path: Path, camera: Path) -> None:
    raw = small_night.make(tmp_path / "raw", dark=0, flat=0, science=1)
    camera.write_text("[linearity]\ncoefficients = [1e-6]\n", encoding="utf-8")
    ledger = reduce_night(raw, tmp_path / "out", camera)
    found = {product.name: product for product in ledger.products}
    assert found["masters/bias.fits"].status == "made"
    assert "bias_level under [instrument]" in found["science/m67_V_0.fits"].reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[shutter]\nmap = 'x.fits'", "shutter.map = 'x.fits': there is no file"),
        ("[fringe.frames]\nz = 'x.fits'", "fringe.frames.z = 'x.fits': there is no file"),
        ("[illumination.frames]\nV = 3", "illumination.frames.V = 3: expected text"),
        ("[linearity]\ncoefficients = [1e-6]\ntable = [[0, 0], [1, 1]]", "give one of"),
        ("[linearity]\nlimit = 1\n[linearity.amplifier_limit]\na = 1", "give one of limit"),
        ("[linearity]\ncoefficients = 'x'", "expected a list of a number"),
        ("[crosstalk]\nmatrix = [1, 2]", "expected a list of a list of a number"),
        ("[gain_ratios.ratios]\na = -1", "expected a number > 0"),
        ("[saturation]\nbleed = 1.5", "expected a whole number"),
        ("[saturation]\nbled = 1", "did you mean 'bleed'"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"camera\.toml") as caught:
        load_config(path)
    assert says in str(caught.value)


def test_amplifiers_by_name(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(
        "[crosstalk]\nmatrix = [[0, 2e-4], [1e-4, 0]]\n"
        "[linearity.amplifier_coefficients]\nL = [1e-6]\nR = [2e-6, 1e-12]\n"
        "[linearity.amplifier_limit]\nL = 50000\nR = 55000\n"
        "[gain_ratios.ratios]\nL = 1\nR = 1.01\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.crosstalk.matrix == ((0, 2e-4), (1e-4, 0))
    assert config.linearity.arguments() == {
        "coefficients": {"L": (1e-6,), "R": (2e-6, 1e-12)},
        "limit": {"L": 50000, "R": 55000},
    }
    assert config.gain_ratios.ratios == {"L": 1, "R": 1.01}

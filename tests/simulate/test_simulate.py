"""Simulated nights against what the real cameras write and against their own stated truth."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from daskcal.errors import ArgumentError, OutputError, UnknownKeywordError
from daskcal.night.config.read import load_config
from daskcal.simulate import CAMERAS, SimulatedNight, load_truth, simulate_night

SIZE = (160, 128)
SINGLE = {name: camera for name, camera in CAMERAS.items() if not camera.chips}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimulatedNight]:
    """`night(camera)`: a small night, made once."""
    made: dict[str, SimulatedNight] = {}

    def make(camera: str) -> SimulatedNight:
        if camera not in made:
            made[camera] = simulate_night(tmp_path_factory.mktemp(camera), camera, size=SIZE)
        return made[camera]

    return make


def _headers(night: SimulatedNight) -> list[fits.Header]:
    return [fits.getheader(path) for path in night.files]


def _pairs(headers: list[fits.Header], *names: str) -> Counter[tuple[object, ...]]:
    return Counter(tuple(header.get(name) for name in names) for header in headers)


# --- what each camera's night holds --------------------------------------------------------------


def test_lfc_night_is_that_of_the_seeds(night: Callable[[str], SimulatedNight]) -> None:
    headers = _headers(night("lfc"))
    assert _pairs(headers, "IMAGETYP", "EXPTIME", "FILTER") == {
        ("BIAS", 0.0, "i'"): 6,
        ("DARK", 7.0, "r'"): 3,
        ("DARK", 70.0, "r'"): 3,
        ("DARK", 300.0, "r'"): 3,
        ("FLATFIELD", 70.001, "g'"): 2,
        ("FLATFIELD", 70.011, "g'"): 1,
        ("FLATFIELD", 7.0, "i'"): 3,
        ("OBJECT", 300.062, "g'"): 1,
        ("OBJECT", 300.014, "i'"): 1,
    }
    assert all("BUNIT" not in header for header in headers)
    assert all(header["GAIN"] == 1.1 and len(header["UT"]) == 11 for header in headers)
    dates = _pairs(headers, "IMAGETYP", "DATE-OBS")
    assert {d for t, d in dates if t == "DARK"} == {"2016-03-13"}
    assert {d for t, d in dates if t == "OBJECT"} == {"2016-01-16"}
    names = {path.name for path in night("lfc").files}
    assert {"ccd.001.0.fits", "ccd.014.0.fits", "ccd.037.0.fits", "ccd.043.0.fits"} <= names
    assert "DARKTIME" in headers[0]


def test_aspen_night_is_that_of_the_seeds(night: Callable[[str], SimulatedNight]) -> None:
    headers = _headers(night("aspen-cg16m"))
    assert _pairs(headers, "IMAGETYP", "EXPTIME", "FILTER") == {
        ("BIAS", 0.0, None): 10,
        ("DARK", 90.0, None): 11,
        ("FLAT", 1.0, "r"): 5,
        ("FLAT", 1.02, "r"): 1,
        ("FLAT", 1.06, "r"): 1,
        ("FLAT", 1.11, "r"): 1,
        ("FLAT", 1.16, "r"): 1,
        ("FLAT", 1.21, "r"): 1,
        ("LIGHT", 90.0, "r"): 2,
    }
    for header in headers:
        assert header["EXPOSURE"] == header["EXPTIME"]
        assert header["BUNIT"] == "adu"
        assert header["EGAIN"] == 1.5
    names = [path.name for path in night("aspen-cg16m").files]
    assert names[-2:] == ["kelt-16-b-S001-R001-C084-r.fit", "kelt-16-b-S001-R001-C125-r.fit"]
    levels = [
        np.median(fits.getdata(p)) for p in night("aspen-cg16m").files if "AutoFlat" in p.name
    ]
    # to 2 %: the guide gives medians, the plan gives means
    np.testing.assert_allclose([levels[0], levels[-1]], [45892, 38662], rtol=0.02)
    assert levels[0] == max(levels)


def test_generic_night_says_everything_in_its_headers(
    night: Callable[[str], SimulatedNight],
) -> None:
    headers = _headers(night("generic"))
    assert _pairs(headers, "IMAGETYP", "FILTER") == {
        ("BIAS", None): 9,
        ("DARK", None): 12,
        ("SKYFLAT", "B"): 5,
        ("SKYFLAT", "V"): 5,
        ("OBJECT", "B"): 2,
        ("OBJECT", "V"): 2,
    }
    for header in headers:
        assert header["TRIMSEC"] == "[17:144,1:160]"
        assert header["BIASSEC"] == "[149:208,1:160]"
        assert (header["GAIN"], header["RDNOISE"], header["SATURATE"]) == (1.4, 8.0, 65535)
        assert header["DARKTIME"] == (0 if header["EXPTIME"] == 0 else header["EXPTIME"] + 1.5)
    assert {h["EXPTIME"] for h in headers if h["IMAGETYP"] == "DARK"} == {60.0, 300.0}


@pytest.mark.parametrize("camera", SINGLE)
def test_frames_are_unsigned_16_bit_with_many_cards(
    night: Callable[[str], SimulatedNight], camera: str
) -> None:
    for path in night(camera).files:
        header = fits.getheader(path)
        assert (header["BITPIX"], header["BZERO"], header["BSCALE"]) == (16, 32768, 1)
        assert 30 <= len(header) <= 70


@pytest.mark.parametrize("camera", SINGLE)
def test_files_are_clean_by_fitsverify(night: Callable[[str], SimulatedNight], camera: str) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed")
    made = night(camera)
    paths = [str(path) for path in (*made.files, *made.truth.rglob("*.fits"))]
    done = subprocess.run([program, "-q", *paths], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line]
    assert len(lines) == len(paths)
    assert [line for line in lines if "verification OK" not in line] == []


# --- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("camera", "size", "shape"),
    [
        ("lfc", None, (4128, 2080)),
        ("aspen-cg16m", None, (4096, 4109)),
        ("generic", None, (1024, 1104)),
        ("lfc", (64, 32), (64, 64)),
        ("aspen-cg16m", (16, 16), (16, 29)),
    ],
)
def test_raw_frames_have_the_cameras_extra_columns(
    camera: str, size: tuple[int, int] | None, shape: tuple[int, int]
) -> None:
    assert CAMERAS[camera].geometry(size).shape == shape


def test_lfc_sections_are_those_of_the_seeds_at_full_size() -> None:
    geometry = CAMERAS["lfc"].geometry()
    assert geometry.kept_columns == slice(0, 2048)
    assert geometry.overscan_columns == slice(2055, 2080)
    assert geometry.top == 32


@pytest.mark.parametrize("camera", SINGLE)
def test_size_is_the_kept_area_and_the_config_has_its_sections(
    night: Callable[[str], SimulatedNight], camera: str
) -> None:
    made = night(camera)
    config, truth = load_config(made.config), load_truth(made.truth.parent)
    assert fits.getdata(made.files[0]).shape == CAMERAS[camera].geometry(SIZE).shape
    assert truth.bias().shape == truth.dark().shape == truth.defects().shape == SIZE
    expected = {
        "generic": ("header", "header"),
        "lfc": ("[:, 135:]", "[:, :128]"),
        "aspen-cg16m": ("none", "[:, :128]"),
    }
    assert (config.overscan.section, config.trim.section) == expected[camera]
    if camera != "generic":
        assert (config.instrument.gain, config.instrument.rdnoise) == (truth.gain, truth.rdnoise)


def test_overscan_follows_the_rows_and_top_rows_see_no_light(
    night: Callable[[str], SimulatedNight],
) -> None:
    made = night("lfc")
    truth, geometry = load_truth(made.truth), CAMERAS["lfc"].geometry(SIZE)
    flat = next(f for f in truth.frames if f.kind == "flat")
    raw = fits.getdata(made.folder / flat.file).astype(float)
    level = raw[:, geometry.overscan_columns].mean(axis=1)
    assert np.ptp(level) > 5  # adu: the drift that makes an overscan worth having
    lit, top = np.s_[: -geometry.top], np.s_[-geometry.top :]
    assert np.median((raw - level[:, None])[lit, :128]) > 15_000
    assert abs(np.mean((raw[:, :128] - level[:, None] - truth.bias() + 1000)[top])) < 3
    assert (truth.defects()[top] == 64).all()
    assert (truth.flat(flat.filter)[top] == 0).all()
    science = next(f for f in truth.frames if f.kind == "science")
    image = truth.image(science.file)
    assert np.isnan(image[top]).all()
    assert np.isfinite(image[lit]).all()


def test_aspen_overscan_is_of_no_use(night: Callable[[str], SimulatedNight]) -> None:
    made = night("aspen-cg16m")
    flat = next(path for path in made.files if "AutoFlat" in path.name)
    assert np.median(fits.getdata(flat)[:, 128:]) > 20_000  # far from the bias level of 1200


def test_the_star_field_stays_at_its_place_on_the_sky(
    night: Callable[[str], SimulatedNight],
) -> None:
    """The brightest star has one right ascension and declination in all dithered frames."""
    made = night("generic")
    truth, first = load_truth(made.truth), CAMERAS["generic"].prescan
    places = []
    for frame in (f for f in truth.frames if f.kind == "science"):
        image = truth.image(frame.file).astype(float) - frame.sky
        y, x = np.unravel_index(np.argmax(image), image.shape)
        box = image[y - 3 : y + 4, x - 3 : x + 4]
        steps = np.arange(-3, 4)
        cy, cx = (box.sum(1) * steps).sum() / box.sum(), (box.sum(0) * steps).sum() / box.sum()
        wcs = WCS(fits.getheader(made.folder / frame.file))
        places.append(wcs.pixel_to_world_values(x + cx + first, y + cy))
    spread = np.ptp(places, axis=0) * 3600 / CAMERAS["generic"].arcsec
    assert (spread < 0.5).all()  # pixels; dithers are up to ± 4


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "rdnoise"), [(0.5, 4.0), (4.95, 9.3)])
def test_gain_and_read_noise_by_photon_transfer(
    tmp_path: Path, gain: float, rdnoise: float
) -> None:
    made = simulate_night(
        tmp_path, "aspen-cg16m", size=(256, 256), gain=gain, rdnoise=rdnoise, n_flat=4, n_dark=0,
        n_science=0,
    )  # fmt: skip
    truth = load_truth(tmp_path)
    biases = [_kept(made, f.file) for f in truth.frames if f.kind == "bias"]
    measured = np.std(biases[0] - biases[1]) / np.sqrt(2)
    # rounding to whole adu adds 1/12
    assert measured == pytest.approx(np.hypot(rdnoise / gain, 12**-0.5), rel=0.02)
    assert np.mean(biases) == pytest.approx(truth.bias().mean(), abs=0.05)

    good = truth.defects() == 0
    first, second = (_kept(made, f.file) for f in truth.frames[-2:])
    bias, sensitivity = truth.bias(), truth.flat("r")
    signal = (first - bias)[good].mean(), (second - bias)[good].mean()
    noise = ((first - bias) / signal[0] - (second - bias) / signal[1])[good] / sensitivity[good]
    # Var = 2 (signal·s/gain + (rdnoise/gain)² + 1/12) / (signal·s)², averaged over the pixels
    level = np.mean(signal)
    s = sensitivity[good].astype(float)
    expected = 2 * np.mean(1 / (gain * level * s) + (rdnoise / gain) ** 2 / (level * s) ** 2)
    assert np.var(noise) == pytest.approx(expected, rel=0.02)
    for frame, mean in zip(truth.frames[-2:], signal, strict=True):
        assert mean == pytest.approx(frame.flat_level, rel=1e-3)


def test_darks_have_the_true_current(night: Callable[[str], SimulatedNight]) -> None:
    made = night("aspen-cg16m")
    truth = load_truth(made.truth)
    darks = [f for f in truth.frames if f.kind == "dark"]
    clean = np.all([truth.mask(f.file) == 0 for f in darks], axis=0)
    frames = np.array([_kept(made, f.file) for f in darks]).mean(axis=0)
    rate = (frames - truth.bias()) * truth.gain / darks[0].darktime
    error = truth.rdnoise / darks[0].darktime / np.sqrt(len(darks) * clean.sum())
    assert abs((rate - truth.dark())[clean].mean()) < 4 * error
    hot = truth.defects() == 2
    assert hot.any()
    assert (truth.dark()[hot] >= 15).all()


def test_sensitivity_has_mean_1_over_good_pixels_and_0_at_dead_ones(
    night: Callable[[str], SimulatedNight],
) -> None:
    for camera, model in SINGLE.items():
        truth = load_truth(night(camera).truth)
        defects = truth.defects()
        assert (defects == 1).sum() >= 6
        for name in model.filters:
            flat = truth.flat(name)
            assert flat[defects == 0].mean(dtype=float) == pytest.approx(1, abs=1e-6)
            assert (flat[(defects & 1) != 0] == 0).all()
            assert (flat[(defects & (1 | 64)) == 0] > 0.3).all()


@pytest.mark.parametrize("camera", SINGLE)
@pytest.mark.parametrize(("sky", "gain"), [(20, 4.95), (20_000, 0.5)])
def test_raw_science_frames_equal_their_truth_within_the_noise(
    tmp_path: Path, camera: str, sky: float, gain: float
) -> None:
    made = simulate_night(
        tmp_path, camera, size=(192, 192), sky=sky, gain=gain, n_bias=0, n_dark=0, n_flat=0
    )
    truth = load_truth(tmp_path)
    for frame in truth.frames:
        reduced = _kept(made, frame.file) - truth.bias()
        reduced = reduced * gain - truth.dark() * frame.darktime
        pixels, true = truth.sky_pixels(frame.file), truth.image(frame.file)
        assert pixels.mean() > 0.5
        flat = truth.flat(frame.filter)[pixels]
        residual = reduced[pixels] / flat - true[pixels]
        variance = true[pixels] * flat + (truth.dark() * frame.darktime)[pixels]
        # the overscan's mean takes the drift out, and leaves its own noise
        n_overscan = np.inf if camera == "aspen-cg16m" else 25
        variance += truth.rdnoise**2 * (1 + 1 / n_overscan) + gain**2 / 12
        sigma = np.sqrt(np.mean(variance / flat**2))
        rows = 4 * truth.rdnoise / np.sqrt(n_overscan * 192)  # noise that pixels of a row share
        assert abs(residual.mean()) < 4 * sigma / np.sqrt(pixels.sum()) + rows
        assert residual.std() == pytest.approx(sigma, rel=0.03)


def test_masks_name_what_was_planted(night: Callable[[str], SimulatedNight]) -> None:
    made = night("generic")
    truth = load_truth(made.truth)
    for frame in (f for f in truth.frames if f.kind == "science"):
        mask, raw = truth.mask(frame.file), _kept(made, frame.file, level=False)
        np.testing.assert_array_equal((mask & 4) != 0, raw == 65535)
        assert ((mask & 4) != 0).sum() > 5
        np.testing.assert_array_equal(mask & 3, truth.defects() & 3)
        assert bool((mask & 32).any()) == (frame.n_cosmics > 0)


def test_number_of_cosmic_rays_can_be_chosen(tmp_path: Path) -> None:
    none = simulate_night(tmp_path / "a", size=(64, 64), n_cosmics=0, n_flat=1, n_bias=0)
    some = simulate_night(tmp_path / "b", size=(64, 64), n_cosmics=9, n_flat=1, n_bias=0)
    for made, kinds in ((none, set()), (some, {"dark", "science"})):
        truth = load_truth(made.truth)
        masked = [f for f in truth.frames if f.kind in ("dark", "science")]
        hit = {f.kind for f in masked if (truth.mask(f.file) & 32).any()}
        assert hit == kinds
        assert {f.kind for f in truth.frames if f.n_cosmics} == kinds


def _kept(made: SimulatedNight, name: str, *, level: bool = True) -> np.ndarray:
    """Kept area of a raw frame, float64; without the rows' drift unless `level` is False."""
    truth = load_truth(made.truth)
    geometry = CAMERAS[truth.camera].geometry(truth.size)
    raw = fits.getdata(made.folder / name).astype(float)
    if level and geometry.overscan:
        raw -= raw[:, geometry.overscan_columns].mean(axis=1)[:, None] - 1000
    return raw[:, geometry.kept_columns]


# --- determinism ---------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one = simulate_night(tmp_path / "one", "lfc", size=(48, 40), seed=5)
    two = simulate_night(tmp_path / "two", "lfc", size=(48, 40), seed=5)
    other = simulate_night(tmp_path / "other", "lfc", size=(48, 40), seed=6)
    bytes_of = [
        {
            p.relative_to(n.folder.parent): p.read_bytes()
            for p in sorted(n.folder.parent.rglob("*.*"))
        }
        for n in (one, two)
    ]
    assert bytes_of[0] == bytes_of[1]
    assert len(bytes_of[0]) > 23
    differ = [a.read_bytes() != b.read_bytes() for a, b in zip(one.files, other.files, strict=True)]
    assert all(differ)


def test_a_frame_does_not_depend_on_the_others(tmp_path: Path) -> None:
    many = simulate_night(tmp_path / "many", size=(32, 32))
    few = simulate_night(tmp_path / "few", size=(32, 32), n_bias=2, n_dark=1, n_flat=0)
    shared = {path.name for path in few.files}
    assert len(shared) == 8
    for path in few.files:
        assert path.read_bytes() == (many.folder / path.name).read_bytes()


def test_counts_can_be_chosen_and_names_stay_distinct(tmp_path: Path) -> None:
    made = simulate_night(tmp_path, "lfc", size=(16, 16), n_bias=40, n_dark=2, n_science=3)
    truth = load_truth(tmp_path)
    assert Counter(f.kind for f in truth.frames) == {"bias": 40, "dark": 6, "flat": 6, "science": 6}
    assert len({path.name for path in made.files}) == 58 == len(list(made.folder.iterdir()))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"camera": "asspen"}, "aspen-cg16m"),
        ({"size": (8, 64)}, "at least 16"),
        ({"size": (64.0, 64)}, "two integers"),
        ({"size": 64}, "two integers"),
        ({"size": (64, 64, 64)}, "two integers"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": True}, "seed=True"),
        ({"n_bias": 1.5}, "n_bias=1.5"),
        ({"n_cosmics": -2}, "n_cosmics=-2"),
        ({"gain": 0}, "gain=0"),
        ({"gain": float("nan")}, "gain=nan"),
        ({"rdnoise": -1}, "rdnoise=-1"),
        ({"sky": "dark"}, "sky='dark'"),
        ({"n_bias": 0, "n_dark": 0, "n_flat": 0, "n_science": 0}, "nothing to make"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ArgumentError, match=words):
        simulate_night(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_misspelled_keyword_names_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownKeywordError, match="n_flat"):
        simulate_night(tmp_path / "out", n_flats=3)  # type: ignore[call-arg]


def test_an_earlier_night_is_replaced_only_when_asked(tmp_path: Path) -> None:
    simulate_night(tmp_path, "lfc", size=(16, 16))
    with pytest.raises(OutputError, match="overwrite=True"):
        simulate_night(tmp_path, size=(16, 16))
    (tmp_path / "reduced").mkdir()
    simulate_night(tmp_path, size=(16, 16), overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {"raw", "truth", "generic.toml", "reduced"}
    assert load_truth(tmp_path).camera == "generic"


def test_frames_that_were_not_simulated_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    precious = tmp_path / "raw" / "precious.fits"
    precious.write_bytes(b"a night at the telescope")
    with pytest.raises(OutputError, match="not simulated"):
        simulate_night(tmp_path, size=(16, 16), overwrite=True)
    simulate_night(tmp_path / "new", size=(16, 16))
    shutil.copy(precious, tmp_path / "new" / "raw")
    with pytest.raises(OutputError, match=r"precious\.fits"):
        simulate_night(tmp_path / "new", size=(16, 16), overwrite=True)
    assert precious.read_bytes() == (tmp_path / "new" / "raw" / precious.name).read_bytes()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        simulate_night(tmp_path / "file", size=(16, 16))
    with pytest.raises(OutputError, match="cannot be"):
        simulate_night(tmp_path / "file" / "below", size=(16, 16))


def test_a_night_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.ImageHDU, "__init__", full)
    with pytest.raises(OutputError, match="No space left"):
        simulate_night(tmp_path / "out", size=(16, 16))
    assert list((tmp_path / "out").iterdir()) == []


def test_load_truth_says_what_is_missing(
    tmp_path: Path, night: Callable[[str], SimulatedNight]
) -> None:
    with pytest.raises(ArgumentError, match="no simulated night"):
        load_truth(tmp_path)
    truth = load_truth(night("lfc").truth)
    assert truth.frame("science/ccd.037.0.fits").exptime == 300.062
    with pytest.raises(ArgumentError, match=r"ccd\.037"):
        truth.frame("ccd.37.0.fits")
    with pytest.raises(ArgumentError, match="bias frame"):
        truth.image("ccd.001.0.fits")

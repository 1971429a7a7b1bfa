"""A night's config: defaults, template, shipped cameras, and what is said of a faulty file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

import daskcal
from daskcal.errors import ArgumentError, ConfigError, UnknownKeywordError
from daskcal.fits.keywords import DEFAULT_KEYWORDS, TYPES
from daskcal.masters.rules import KeywordRule
from daskcal.night.config.combine import OPTIONS
from daskcal.night.config.gates import Gates
from daskcal.night.config.keys import Amplifier, ClassifyRule, FrameType, NightConfig
from daskcal.night.config.read import camera_names, load_camera, load_config, parse_section
from daskcal.night.config.template import template


def written(folder: Path, text: str) -> Path:
    path = folder / "night.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tables(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from tables(field.annotation)


def keys(values: object, model: BaseModel | None, path: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted keys of a model's values, and whether parsed TOML `values` has each."""
    assert model is not None
    for name in type(model).model_fields:
        there = isinstance(values, dict) and name in values
        inner = getattr(model, name)
        yield f"{path}{name}", there
        if isinstance(inner, BaseModel):
            yield from keys(values[name] if there else None, inner, f"{path}{name}.")  # type: ignore[index]


class TestDefaults:
    def test_no_file_gives_defaults(self) -> None:
        assert load_config() == NightConfig()
        assert load_config(None).combine.flat.scale == "median"

    def test_an_empty_file_gives_defaults(self, tmp_path: Path) -> None:
        assert load_config(written(tmp_path, "")) == NightConfig()

    def test_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            NightConfig().dark.tolerance = 3.0  # type: ignore[misc]

    def test_misspelled_argument(self) -> None:
        with pytest.raises(UnknownKeywordError, match="did you mean 'path'"):
            load_config(pth="x")  # type: ignore[call-arg]

    def test_one_key_of_a_table_leaves_the_others(self, tmp_path: Path) -> None:
        config = load_config(written(tmp_path, "[combine.flat]\nlow = 3\nhigh = 'none'"))
        flat = config.combine.flat
        assert (flat.low, flat.high, flat.scale, flat.maxiters) == (3.0, None, "median", None)


class TestTemplate:
    def test_is_the_defaults(self, tmp_path: Path) -> None:
        assert load_config(written(tmp_path, template())) == NightConfig()

    def test_has_every_key(self) -> None:
        values = tomllib.loads(template())
        missing = [key for key, there in keys(values, NightConfig()) if not there]
        lists = ["instrument.amplifiers", "classify", "match.keywords", "pin", "bad"]
        assert missing == lists  # shown as examples
        for name in (*ClassifyRule.model_fields, *Amplifier.model_fields):
            assert f"\n# {name} = " in template()

    def test_every_key_has_a_description(self) -> None:
        for table in {*tables(NightConfig), ClassifyRule, Amplifier}:
            assert table.__doc__
            for name, field in table.model_fields.items():
                if name not in ("amplifiers", "classify", "keywords") and (
                    table not in (NightConfig, Gates) or name in ("extends", "datasum")
                ):
                    assert field.description, f"{table.__name__}.{name}"
                    assert field.description.endswith((".", "'")), f"{table.__name__}.{name}"

    def test_its_examples_are_valid(self, tmp_path: Path) -> None:
        lines = template().splitlines()
        shown = ("classify", "match", "pin", "bad", "keywords", "types")
        table, text = "", ""
        for line in lines:
            title = re.match(r"(?:# \[)?\[(\w+)", line)
            table = title[1] if title else table
            text += re.sub(r"^# (\[\[|\w+ = )", r"\1" if table in shown else r"# \1", line) + "\n"
        config = load_config(written(tmp_path, text))
        assert config.classify[0].when == "OBSTYPE == 'DARK' and EXPTIME == 0"
        assert config.keywords == {"exptime": ("EXPOSURE",)}
        assert config.types == {"FLATFIELD": "flat"}
        assert config.match.keywords[0].rule() == KeywordRule("ROTANGLE")
        assert config.pin[0].flat == "masters/flat_V.fits"
        assert config.bad[0].reason == "light leak"


class TestPinsAndBads:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[[pin]]\nwhen = \"object == 'M67'\"", "a pin needs a master: give 'bias'"),
            ("[[pin]]\nflat = 'flat_V'\nwhen = 'a ='", "cannot read the condition"),
            ("[[pin]]\nflats = 'flat_V'", "did you mean 'flat'"),
            ("[[bad]]\nfile = 'x.fits'", "bad[0].reason: is missing"),
            ("[[bad]]\nfile = ' '\nreason = 'x'", "'file' is empty"),
            ("[[match.keywords]]\nkeyword = 'rotangle'", "headers' own are in upper case"),
            ("[[match.keywords]]\nkeyword = 'A=B'", "no header keyword"),
            ("[[match.keywords]]\nkeyword = 'A'\nmasters = ['flats']", "expected a list of 'bias'"),
            ("[[match.keywords]]\nkeyword = 'A'\n[[match.keywords]]\nkeyword = 'A'", "given twice"),
        ],
    )
    def test_what_cannot_be(self, text: str, says: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load_config(written(tmp_path, text))
        assert says in str(caught.value)


def test_words_are_those_of_the_keyword_table(tmp_path: Path) -> None:
    assert get_args(FrameType) == TYPES
    lines = ['"Bias Frame" = "bias"', 'TWI = "twilight-flat"', "[keywords]"]
    lines += [f'{name} = ["MY-KEY", "A+B"]' for name in DEFAULT_KEYWORDS.aliases]
    config = load_config(written(tmp_path, "\n".join(["[types]", *lines])))
    table = DEFAULT_KEYWORDS.extended(aliases=config.keywords, types=config.types)
    assert table.types["BIASFRAME"] == "bias"
    assert table.types["TWI"] == "twilight-flat"
    assert table.aliases["exptime"][0] == "MY-KEY"


class TestCameras:
    def test_shipped(self) -> None:
        assert set(camera_names()) >= {"lfc", "aspen-cg16m"}
        for name in camera_names():
            assert load_camera(name) == load_config(name)

    def test_lfc_is_the_seeds_example_1(self) -> None:
        camera = load_camera("lfc")
        assert parse_section(camera.overscan.section) == ("python", "[:, 2055:]")
        assert (camera.overscan.method, camera.overscan.clip) == ("median", None)
        assert parse_section(camera.trim.section) == ("python", "[:, :2048]")
        assert camera.bias.subtract is False
        assert (camera.dark.scale, camera.dark.tolerance) == (False, 1.0)
        assert camera.instrument.unit == "adu"
        assert camera.types["FLATFIELD"] == "flat"
        assert camera.match.days is None
        assert camera.combine.flat.scale == "median"

    def test_aspen_is_the_seeds_example_2(self) -> None:
        camera = load_camera("aspen-cg16m")
        assert parse_section(camera.overscan.section) == ("none", "")
        assert parse_section(camera.trim.section) == ("python", "[:, :4096]")
        assert camera.bias.subtract is True
        assert camera.dark.scale is True
        assert camera.keywords["exptime"] == ("EXPOSURE", "EXPTIME")
        assert camera.types["LIGHT"] == "science"

    def test_extends_overrides_key_by_key(self, tmp_path: Path) -> None:
        text = 'extends = "lfc"\n[dark]\ntolerance = 2.5\n[types]\nSKY = "flat"'
        config = load_config(written(tmp_path, text))
        assert config.dark.tolerance == 2.5
        assert config.dark.scale is False
        assert config.types == {**load_camera("lfc").types, "SKY": "flat"}

    def test_extends_can_go_back_to_the_header(self, tmp_path: Path) -> None:
        config = load_config(written(tmp_path, 'extends = "lfc"\n[instrument]\nunit = "header"'))
        assert config.instrument.unit is None

    def test_unknown_camera(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"night\.toml: extends = 'lcf': .* mean 'lfc'\?"):
            load_config(written(tmp_path, 'extends = "lcf"'))
        with pytest.raises(ConfigError, match="did you mean 'aspen-cg16m'"):
            load_camera("aspen")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[dark]\ntolerence = 1", "dark.tolerence: unknown key; did you mean 'tolerance'?"),
        ("[drak]\nscale = true", "drak: unknown key; did you mean 'dark'?"),
        ("[combine.flat]\nlowe = 1", "combine.flat.lowe: unknown key; did you mean 'low'?"),
        ("[dark]\ntolerance = '1 s'", "dark.tolerance = '1 s': expected a number ≥ 0"),
        ("[dark]\ntolerance = -1", "dark.tolerance = -1: expected a number ≥ 0"),
        ("[dark]\ntolerance = nan", "dark.tolerance = nan: expected a number ≥ 0"),
        ("[dark]\nscale = 1", "dark.scale = 1: expected 'auto', true or false"),
        ("[dark]\nscale = 'auot'", "expected 'auto', true or false; did you mean 'auto'?"),
        ("[dark]\nhot_threshold = 0", "expected a number > 0, 'auto' or 'none'"),
        ("[instrument]\ngain = 0", "instrument.gain = 0: expected a number > 0 or 'header'"),
        ("[instrument]\ngain = true", "instrument.gain = true: expected a number > 0"),
        ("[instrument]\nunit = 'elektron'", "did you mean 'electron'?"),
        ("[instrument]\nhdu = -1", "instrument.hdu = -1: expected a whole number ≥ 0, text"),
        ("[combine.bias]\nreject = 'sigmaclip'", "'crreject' or 'none'; did you mean 'sigma'?"),
        ("[combine.bias]\nmethod = 'sum'\nweights = 'mean'", "weights are for method = 'average'"),
        ("[combine.flat]\nscale = 'exptime'\nsection = '[:3, :]'", "section is where statistics"),
        ("[combine.flat]\nsection = 'header'", "write it as '[100:200, :]'"),
        ("[combine.bias]\nreject = 'none'\ngrow = 1", "grow needs a rejection"),
        ("[combine.flat]\nn_low = 2", "combine.flat: n_low = 2 is for reject = 'minmax', and"),
        ("[combine.dark]\nreject = 'minmax'\nlow = 3", "combine.dark: low = 3.0 is for reject ="),
        ("[flat]\nmin_value = 1.0", "flat.min_value = 1.0: expected a number ≥ 0 and < 1"),
        ("[combine.bias]\nn_low = 1.5", "a whole number ≥ 0 or a number > 0 and < 1"),
        ("[combine.bias]\nfraction = 0.7", "a number > 0 and ≤ 0.5"),
        ("[combine.bias]\nmaxiters = 0", "a whole number ≥ 1 or 'converge'"),
        ("[combine.bias]\nmaxiters = 1.5", "a whole number ≥ 1 or 'converge'"),
        ("[overscan]\norder = -1", "overscan.order = -1: expected a whole number ≥ 0"),
        ("[overscan]\nmodel = 'spline'\norder = 0", "a spline needs at least one piece"),
        ("[overscan]\nsection = '[:, 2055'", "overscan.section = '[:, 2055': section"),
        ("[overscan]\nsection = '[9:3, :]'", "is empty"),
        ("[overscan]\nsection = 'fits [0:3,1:9]'", "FITS section '[0:3,1:9]'"),
        ("[trim]\nsection = 'heeder'", "trim.section = 'heeder': did you mean 'header'?"),
        ("[match]\nflat_kind = ['doom']", "match.flat_kind[0] = 'doom': expected a list of 'dome'"),
        ("[output]\nproducts = []", "output.products = []: expected a list"),
        ("[output]\nproducts = ['mask']", "output.products = ['mask']: products need 'image'"),
        ("[keywords]\nexptme = ['EXPOSED']", "unknown name 'exptme'; did you mean 'exptime'?"),
        (
            "[keywords]\nexptime = 'EXPOSED'",
            "keywords.exptime = 'EXPOSED': expected a list of text",
        ),
        ("[keywords]\nexptime = ['exp time!']", "no header keyword"),
        ("[types]\nFLATFIELD = 'flatt'", "types.FLATFIELD = 'flatt': expected 'bias', 'dark'"),
        ("[[classify]]\nwhen = 'A == 1'", "classify[0].imagetyp: is missing; give 'bias', 'dark'"),
        ("[[classify]]\nimagetyp = 'bias'", "classify[0]: a rule needs a condition"),
        ("[[classify]]\nwhen = 'A = 1'\nimagetyp = 'bias'", "use '==' to compare"),
        ("[[classify]]\nwen = 'A'\nfiles = 'x'\nimagetyp = 'bias'", "did you mean 'when'?"),
        (
            "[[classify]]\nfiles = 'x'\nimagetyp = 'bias'\nflat_kind = 'sky'",
            "flat_kind is for flats only",
        ),
        ("classify = 3", "classify = 3: expected a list of a table"),
        ("dark = 3", "dark = 3: expected a table"),
        ("[select]\nquery = 'open(1) == 2'", "functions cannot be called"),
        ("[dark]\nscale = true\n[bias]\nsubtract = false", "dark.scale = true needs the bias"),
        ("[mask]\nbad_pixels = 'none.fits'", "mask.bad_pixels = 'none.fits': there is no file"),
    ],
)
def test_fault_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert says in message
    assert message.startswith(f"{path}: ")


def test_keys_of_rejections_are_the_options_of_combine() -> None:
    from daskcal.combination.reject import OPTIONS as OF_COMBINE

    assert {name: set(keys) for name, keys in OPTIONS.items()} == {
        name: set(keys) for name, keys in OF_COMBINE.items()
    }


def test_hierarch_is_no_part_of_a_keyword(tmp_path: Path) -> None:
    text = '[keywords]\nexptime = ["HIERARCH ESO DET DIT", "ITIME"]\n'
    text += '[[match.keywords]]\nkeyword = "HIERARCH ESO INS ROT"'
    config = load_config(written(tmp_path, text))
    assert config.keywords["exptime"] == ("ESO DET DIT", "ITIME")
    assert config.match.keywords[0].keyword == "ESO INS ROT"


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "[dark]\ntolerance = -1\nhot_threshold = 'hot'\n[trim]\nsecton = 1")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    named = sorted(line.split(": ")[1].split(" ")[0] for line in lines)
    assert named == ["dark.hot_threshold", "dark.tolerance", "trim.secton"]


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"night\.toml: not valid TOML: .*line 3"):
        load_config(written(tmp_path, "[dark]\nscale = true\ntolerance = = 1"))


def test_missing_file_names_the_cameras(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such config file .*lfc"):
        load_config(tmp_path / "nihgt.toml")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_mask_starts_at_the_config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "bad.fits").write_bytes(b"")
    written(folder, "[mask]\nbad_pixels = 'bad.fits'")
    monkeypatch.chdir(tmp_path)
    assert load_config("camera/night.toml").mask.bad_pixels == str(folder / "bad.fits")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("header", ("header", "")),
        ("none", ("none", "")),
        (" [:, 2055:] ", ("python", "[:, 2055:]")),
        ("[1:9,1:9]", ("python", "[1:9,1:9]")),  # never guessed to be FITS
        ("fits [1:9,1:9]", ("fits", "[1:9,1:9]")),
        ("FITS[2148:2056, *]", ("fits", "[2148:2056, *]")),
    ],
)
def test_section_forms(text: str, parsed: tuple[str, str]) -> None:
    assert parse_section(text) == parsed


def test_rules_follow_the_config(tmp_path: Path) -> None:
    text = "[match]\ngain = false\ntemperature = 0.5\n[dark]\nmax_scale = 2\ntolerance = 0"
    rules = load_config(written(tmp_path, text)).rules(has_bias=True)
    assert (rules.gain, rules.temperature, rules.days) == (False, 0.5, None)
    assert (rules.max_scale, rules.exposure_tolerance, rules.has_bias) == (2.0, 0.0, True)
    assert not load_camera("lfc").rules(has_bias=True).has_bias  # its darks keep their bias


def test_a_dict_is_no_path(tmp_path: Path) -> None:
    tables = {"overscan": {"section": "none"}}
    with pytest.raises(ArgumentError, match=r"found dict; NightConfig\.model_validate"):
        daskcal.reduce_night(tmp_path, tmp_path / "out", tables)  # type: ignore[arg-type]

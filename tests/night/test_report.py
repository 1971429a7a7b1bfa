"""The report: self-contained, escaped, complete, and bounded in size."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import OutputError
from daskcal.night import report
from daskcal.night.ledger import Choice, FrameEntry, Input, Ledger, ProductEntry
from daskcal.night.report import write_report

VOID = {"meta", "img", "path", "br"}
NASTY = "<script>alert('x')</script>\"' onload=\"evil()\n{{ 7 * 7 }} " + "long" * 500


class Page(HTMLParser):
    """What a browser would make of the page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def write(folder, name, image, mask=None):
    hdus = [fits.PrimaryHDU(image)]
    if mask is not None:
        hdus.append(fits.ImageHDU(mask, name="MASK"))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)


def page_of(path) -> Page:
    return Page(path.read_text("utf-8"))


@pytest.fixture
def night(tmp_path):
    """A small night with its products on disk: (folder, ledger)."""
    out = tmp_path / "my night"
    image = np.random.default_rng(5).normal(1000, 4, (64, 80)).astype(np.float32)
    mask = np.zeros(image.shape, np.int16)
    mask[:16] = 64
    mask[:8] |= 2
    write(out, "masters/bias.fits", image)
    write(out, "masters/flat_g.fits", image, mask)
    write(out, "science/m31.fits", image, mask)
    ledger = Ledger(
        version="0.1.0",
        command="daskcal reduce raw -o out",
        config='[night]\nname = "x"',
        started="2024-01-02T03:04:05Z",
        choices=(Choice("exclude", "*_test*", ("raw/t_test.fits",)),),
        frames=(
            FrameEntry("raw/b.fits", 0, "used", "in masters/bias.fits", exptime=0.0),
            FrameEntry("raw/t_test.fits", 0, "skipped", "excluded by '*_test*'"),
            FrameEntry("raw/m31.fits", 2, "used", "made science/m31.fits", "aa", "science", 300.5,
                       "g", "M 31", "2024-01-02T03:04:05"),
            FrameEntry("raw/cut.fits", None, "failed", "truncated at byte 7"),
        ),
        products=(
            ProductEntry("masters/bias.fits", "bias", "made", used=False,
                         inputs=(Input("raw/b.fits", 0, "ff"),),
                         figures={"rms": math.nan, "rejected_fraction": 0.0123, "median": 5.0}),
            ProductEntry("masters/flat_g.fits", "flat", "made"),
            ProductEntry("science/m31.fits", "science", "made",
                         inputs=(Input("raw/m31.fits", 2, "aa"),),
                         masters=("masters/flat_g.fits",),
                         parameters={"low": 5.0}, rules=("flat: filter 'g' = 'g'",)),
            ProductEntry("science/m33.fits", "science", "missing",
                         reason="no flat for filter 'r'; nearest miss: masters/flat_g.fits"),
            ProductEntry("calibrated/b.fits", "calibrated", "made"),
        ),
        messages=("header read noise 9.3 e disagrees with measured 5.7 e",),
    )  # fmt: skip
    return out, ledger


def test_shows_everything(night):
    page = page_of(write_report(*night))
    for text in (
        "my night",
        "Made, with frames or products left out.",
        "2 masters and 1 science frame from 2 of 4 frames",
        "Observed 2024-01-02 03:04 UTC",
        "header read noise 9.3 e disagrees",
        "nearest miss: masters/flat_g.fits",
        "not used",
        "truncated at byte 7",
        "flat: filter 'g' = 'g'",
        '"low": 5.0',
        'name = "x"',
        "raw/t_test.fits",
        "*_test*",
        "calibrated/b.fits",
        "raw/m31.fits [2]",
        "daskcal reduce raw -o out",
        "1.23 %",
        "300.5",
    ):
        assert text in page.text, text
    assert len(page.all("svg")) == 3
    assert [image["alt"] for image in page.all("img")] == [
        "Picture of masters/bias.fits",
        "Picture of masters/flat_g.fits",
        "Picture of science/m31.fits",
    ]


def test_worst_frames_come_first(night):
    text = page_of(write_report(*night)).text
    text = text[text.index("Exposure, s") :]
    places = [text.index(word) for word in ("raw/cut.fits", "raw/t_test.fits", "raw/b.fits")]
    assert places == sorted(places)


def test_needs_nothing_but_itself(night):
    path = write_report(*night)
    text = path.read_text()
    page = Page(text)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert not page.all("script")
    assert not page.all("link")
    assert all(one["src"].startswith("data:image/png;base64,") for one in page.all("img"))
    assert all(one["href"].startswith("#") for one in page.all("a"))
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")


def test_links_lead_somewhere(night):
    page = page_of(write_report(*night))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {one["href"][1:] for one in page.all("a")} <= set(ids)


def test_figures_of_the_ledger_stand_before_measured_ones(night):
    out, ledger = night
    text = re.sub(r"\s+", " ", page_of(write_report(out, ledger)).text)
    assert "median5 σ (MAD)" in text  # 5 is the ledger's; the pixels' is near 1000
    assert "rmsunknown" in text
    spread = float(re.search(r"σ \(MAD\)([\d.]+)", text)[1])
    assert abs(spread - 4) < 0.3


def test_masked_fractions_by_reason(night):
    text = re.sub(r"\s+", " ", page_of(write_report(*night)).text)
    assert "any reason25.00 % hot12.50 % low flat25.00 %" in text


def test_header_text_is_escaped(tmp_path):
    frame = FrameEntry(NASTY, 1, "skipped", NASTY, NASTY, NASTY, 1.0, NASTY, NASTY, NASTY)
    product = ProductEntry(
        NASTY, "science", "made", inputs=(Input(NASTY, 0, NASTY),), masters=(NASTY,),
        parameters={NASTY: NASTY}, reason=NASTY, rules=(NASTY,), figures={NASTY: 1.0},
    )  # fmt: skip
    missing = dataclasses.replace(product, name="2" + NASTY, status="missing")
    ledger = Ledger(NASTY, NASTY, NASTY, NASTY, NASTY, (Choice("select", NASTY, (NASTY,)),),
                    (frame,), (product, missing), (NASTY,))  # fmt: skip
    image = np.ones((4, 4))
    page = page_of(write_report(tmp_path, ledger, image_of=lambda _: (image, None)))
    assert not page.all("script")
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count("<script>alert('x')</script>") > 15
    assert "{{ 7 * 7 }}" in page.text
    assert page.all("img")[0]["alt"] == f"Picture of {NASTY}"
    assert {"section", "table", "article"} <= {tag for tag, _ in page.tags}


def test_text_that_is_not_unicode_does_no_harm(tmp_path):
    frame = FrameEntry("\udcff.fits", 0, "failed", "bad\x00card")
    path = write_report(tmp_path, Ledger("1", frames=(frame,)))
    assert "?.fits" in path.read_text("utf-8")


def test_a_product_that_cannot_be_read_costs_its_picture(night):
    out, ledger = night
    (out / "science" / "m31.fits").unlink()
    (out / "masters" / "bias.fits").write_bytes(b"SIMPLE")
    page = page_of(write_report(out, ledger))
    assert [image["alt"] for image in page.all("img")] == ["Picture of masters/flat_g.fits"]
    assert "there is no such file" in page.text
    assert "cannot be read as FITS" in page.text
    assert "science/m31.fits" in page.text


def test_images_may_come_from_elsewhere(night):
    out, ledger = night
    asked = []

    def image_of(product):
        asked.append(product.name)
        return None if product.kind == "science" else (np.ones((2, 3), np.uint16), None)

    page = page_of(write_report(out, ledger, image_of=image_of))
    assert asked == ["masters/bias.fits", "masters/flat_g.fits", "science/m31.fits"]
    assert len(page.all("img")) == 2
    assert "No picture" in page.text


def test_an_empty_night_has_a_report(tmp_path):
    page = page_of(write_report(tmp_path, Ledger("1")))
    assert "Not all right" in page.text
    assert not page.all("article")


def test_same_night_same_bytes(night):
    assert write_report(*night).read_bytes() == write_report(*night).read_bytes()


@pytest.mark.parametrize("pictures", [1, 40, 41, 100, 1000])
def test_pictures_stay_bounded(pictures):
    size = report._picture_size(pictures)
    assert report.SMALLEST_PICTURE <= size <= report.PICTURE_SIZE
    assert pictures * size**2 * 4 / 3 < 15e6  # 8 bits a pixel at worst, base64


def test_a_night_of_noise_stays_below_20_mb(tmp_path):
    rng = np.random.default_rng(6)
    image = rng.normal(size=(480, 480))
    products = tuple(ProductEntry(f"science/{i}.fits", "science", "made") for i in range(100))
    path = write_report(tmp_path, Ledger("1", products=products), image_of=lambda _: (image, None))
    assert path.stat().st_size < 20e6
    first = page_of(path).all("img")[0]
    png = base64.b64decode(first["src"].partition(",")[2])
    assert png.startswith(b"\x89PNG")
    assert max(int(first["width"]), int(first["height"])) <= 480


def test_many_frames_and_inputs_are_cut_short_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "USED_FRAMES_SHOWN", 3)
    monkeypatch.setattr(report, "INPUTS_SHOWN", 2)
    frames = [FrameEntry(f"{i}.fits", 0, "used") for i in range(10)]
    frames.append(FrameEntry("bad.fits", 0, "failed", "cut"))
    inputs = tuple(Input(f"{i}.fits", 0, "") for i in range(5))
    product = ProductEntry("masters/bias.fits", "bias", "made", inputs=inputs)
    ledger = Ledger("1", frames=tuple(frames), products=(product,))
    text = page_of(write_report(tmp_path, ledger, image_of=lambda _: None)).text
    assert "bad.fits" in text
    assert "7 more frames were used" in text
    assert "and 3 more, in night.json" in text
    assert "9.fits" not in text


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(OutputError, match=r"index\.html"):
        write_report(tmp_path, Ledger("1"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-3.0, "−3"), (1001.2345, "1001.2"), (24110.5, "24110.5"), (0.060717, "0.060717"),
     (math.nan, "unknown"), (math.inf, "unknown"), (1e12, "1e+12")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert report.number(value) == text

"""Pictures on matplotlib's Axes: the right pixels, labels and units, lazy data by blocks."""

from __future__ import annotations

import builtins
import io
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from small_night import make, many_frames

import daskcal
from daskcal import plot
from daskcal.errors import ArgumentError, UnknownKeywordError
from daskcal.plot import lazily

pytestmark = pytest.mark.usefixtures("figures")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("plot") / "raw", bias=4, dark=2, flat=4, science=2)


@pytest.fixture
def frames(raw) -> xr.Dataset:
    return daskcal.open_frames(sorted(raw.glob("*.fits")))


def shown(ax) -> np.ndarray:
    return ax.images[0].get_array().filled(np.nan)


def block_mean(image: np.ndarray, block: int) -> np.ndarray:
    """Means of whole blocks, straight."""
    rows, columns = (-(-length // block) for length in image.shape)
    result = np.full((rows, columns), np.nan)
    for i, j in np.ndindex(result.shape):
        part = image[i * block : (i + 1) * block, j * block : (j + 1) * block]
        if np.isfinite(part).any():
            result[i, j] = np.nanmean(part)
    return result


@pytest.mark.parametrize("chunks", [None, (7, 44), (31, 44), (5, 11)])
@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_draws_block_means_however_the_image_is_cut(block, chunks):
    rng = np.random.default_rng(1)
    image = rng.normal(1000, 5, (31, 44))
    mask = (rng.random(image.shape) < 0.2).astype(np.uint16)
    image[3, 4], image[9, 9] = np.nan, np.inf
    data = xr.Dataset({"image": (("y", "x"), image), "mask": (("y", "x"), mask)})
    if chunks:
        data = data.chunk(dict(zip(("y", "x"), chunks, strict=True)))
    expected = block_mean(np.where((mask == 0) & np.isfinite(image), image, np.nan), block)
    np.testing.assert_allclose(lazily.small(data, ["image"], block)[0], expected)


def test_an_image_stands_upright_in_detector_pixels_with_its_unit(frames):
    frame = frames.isel(frame=0, y=slice(4, 20), x=slice(10, 32))
    ax = plot.show(frame, title="M 67")
    np.testing.assert_allclose(shown(ax), frame.image.values)
    assert ax.images[0].origin == "lower"
    assert tuple(ax.images[0].get_extent()) == (9.5, 31.5, 3.5, 19.5)
    assert ax.get_title() == "M 67"
    assert ax.get_xlabel() == "x, pixels"
    assert ax.images[0].colorbar.ax.get_ylabel() == "adu"


def inked(ax) -> np.ndarray:
    """What stands on the screen within an Axes, RGB, first row at the top."""
    figure = ax.figure
    figure.canvas.draw()
    screen = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    box = ax.get_window_extent()
    top, bottom = round(screen.shape[0] - box.y1), round(screen.shape[0] - box.y0)
    return screen[top + 2 : bottom - 2, round(box.x0) + 2 : round(box.x1) - 2]


def asymmetric(**attrs) -> xr.Dataset:
    """Bright in row 0 and the first columns, a masked corner far from there."""
    image = np.tile(np.linspace(10, 20, 48, dtype=np.float32), (32, 1))
    image[:8, :12] = 100
    mask = np.zeros(image.shape, np.uint16)
    mask[-8:, -12:] = 1
    found = xr.Dataset({"image": (("y", "x"), image, attrs), "mask": (("y", "x"), mask)})
    return found.assign(n_used=(("y", "x"), (image > 50).astype(np.uint16)))


def corners(screen: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The colour at each corner of what is on the screen."""
    places = {"bottom left": (-5, 5), "top left": (5, 5), "top right": (5, -6)}
    return {name: tuple(screen[place].tolist()) for name, place in places.items()}


@pytest.mark.parametrize(
    "draw",
    [
        lambda data: plot.show(data, percent=100),
        lambda data: plot.show(data.image, percent=100, max_size=16),
        lambda data: plot.pair(data, data, percent=100)[1],
        lambda data: plot.master_planes(data)[1],
        lambda data: plot.mosaic(xr.DataTree.from_dict({"a": data, "b": data}), percent=100)[1],
    ],
    ids=["show", "small", "pair", "master", "mosaic"],
)
def test_row_0_is_at_the_bottom_on_the_screen(draw):
    seen = corners(inked(draw(asymmetric())))
    assert seen["bottom left"] == (255, 255, 255)
    assert seen["top left"] == (0, 0, 0)


@pytest.mark.parametrize("stretch", plot.STRETCHES)
@pytest.mark.parametrize("size", [1000, 20])
def test_a_png_has_the_greys_of_the_axes(tmp_path, stretch, size):
    rng = np.random.default_rng(5)
    data = asymmetric()
    data["image"] = data.image + rng.normal(0, 3, data.image.shape)
    image = plot.show(data, stretch=stretch, max_size=size, percent=98).images[0]
    screen = image.cmap(image.norm(image.get_array()))[..., :3] * 255
    path = plot.write_png(data, tmp_path / "a.png", stretch=stretch, max_size=size, percent=98)
    png = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
    np.testing.assert_allclose(png[::-1], screen, atol=1.6)


@pytest.mark.parametrize("unit", ["adu", "electron", "electron / s"])
def test_the_unit_is_that_of_the_data(unit):
    ax = plot.show(asymmetric(units=unit))
    assert ax.images[0].colorbar.ax.get_ylabel() == unit
    assert plot.histogram(asymmetric(units=unit)).get_xlabel() == unit
    counts = plot.show(asymmetric(units=unit), plane="n_used")
    assert counts.images[0].colorbar.ax.get_ylabel() == "frames"


def test_a_variance_is_in_units_squared(frames):
    bias = frames.query(frame="imagetyp == 'bias'")
    data = bias.pipe(daskcal.create_variance, gain=2.0, rdnoise=4.0).isel(frame=0)
    ax = plot.show(data, plane="variance")
    assert ax.images[0].colorbar.ax.get_ylabel() in ("adu²", "adu2", "adu**2")


def test_a_mask_has_a_colour_for_each_reason():
    data = asymmetric()
    data.mask[:2, :2] = 4 | 128
    data.mask[20, 20] = 2
    ax = plot.show(data, plane="mask", max_size=12)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["bad", "saturated", "hot", "clipped"]
    picture = ax.images[0].get_array()
    assert picture.shape[:2] == (8, 12)
    assert (picture[5, 5] != 1).any()  # the one hot pixel of its block
    seen = corners(inked(ax))
    assert seen["top right"] == (214, 39, 40)
    assert seen["bottom left"] == (255, 191, 0)
    assert seen["top left"] == (255, 255, 255)


def test_a_file_is_drawn_with_its_mask_unit_place_and_name(tmp_path):
    from astropy.io import fits

    data = asymmetric()
    image = fits.PrimaryHDU(data.image.values)
    image.header["BUNIT"] = "ELECTRONS"
    image.header["LTV1"], image.header["LTV2"] = -10, -4
    path = tmp_path / "a$b$.fits"
    fits.HDUList([image, fits.ImageHDU(data.mask.values, name="MASK")]).writeto(path)
    ax = plot.show(path)
    assert ax.get_title() == "a$b$.fits"
    assert ax.images[0].colorbar.ax.get_ylabel() == "electron"
    assert tuple(ax.images[0].get_extent()) == (9.5, 57.5, 3.5, 35.5)
    assert np.isnan(shown(ax)[-8:, -12:]).all()
    assert tuple(np.asarray(corners(inked(ax))["top right"])) == plot.UNDEFINED_COLOUR
    bits = plot.show(path, hdu="MASK", title="")
    assert bits.get_title() == ""
    np.testing.assert_array_equal(shown(bits), data.mask.values)


def test_a_ccddata_is_drawn_with_its_mask_and_unit():
    from astropy.nddata import CCDData

    data = asymmetric()
    ax = plot.show(CCDData(data.image.values, unit="electron", mask=data.mask.values > 0))
    assert np.isnan(shown(ax)[-8:, -12:]).all()
    assert ax.images[0].colorbar.ax.get_ylabel() == "electron"


def test_amplifiers_and_detectors_of_a_file_are_put_together(tmp_path):
    night = daskcal.simulate_night(tmp_path / "m", "mosaic", size=(24, 32), n_bias=1, n_dark=1,
                                   n_flat=1, n_science=1)  # fmt: skip
    tree = daskcal.open_mosaic(night.files[0])
    with pytest.raises(ArgumentError, match="detectors CCD1, CCD2, CCD3, CCD4: mosaic"):
        plot.show(night.files[0])
    axes = plot.mosaic(tree.isel(frame=0))
    assert [ax.get_title() for ax in axes] == ["CCD1", "CCD2", "CCD3", "CCD4"]
    np.testing.assert_allclose(shown(axes[2]), tree["CCD3"].image[0].values)
    png = plot.write_png(night.files[0], tmp_path / "m.png")
    assert Image.open(io.BytesIO(png.read_bytes())).width > 4 * tree["CCD1"].sizes["x"]


def test_masked_pixels_are_blue_and_do_not_drive_the_stretch():
    image = np.tile(np.linspace(100, 200, 50), (40, 1))
    image[0] = 1e9
    mask = np.zeros(image.shape, np.uint16)
    mask[0] = 1
    ax = plot.show(xr.Dataset({"image": (("y", "x"), image), "mask": (("y", "x"), mask)}))
    assert np.isnan(shown(ax)[0]).all()
    assert ax.images[0].norm.vmax <= 200
    bad = np.array(ax.images[0].cmap.get_bad())[:3] * 255
    np.testing.assert_allclose(bad, plot.UNDEFINED_COLOUR)


def counted(seen: list, shape=(800, 500), rows=100):
    """Lazy pixels that note which of their blocks are read."""
    import dask.array as da

    def block(block_info=None):
        place = block_info[None]["array-location"]
        seen.append(place)
        return np.ones([stop - start for start, stop in place], np.float32)

    chunks = ((rows,) * (shape[0] // rows), (shape[1],))
    return da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0)))


def test_lazy_pixels_are_read_once_and_by_blocks():
    seen: list = []
    lazy = xr.DataArray(counted(seen), dims=("y", "x"))
    masked = xr.Dataset({"image": lazy, "mask": (lazy > 2).astype(np.uint16)})
    plot.show(masked, max_size=100)
    assert len(seen) == len({str(place) for place in seen}) == 8


def test_the_planes_of_a_lazy_master_come_of_one_pass():
    seen: list = []
    lazy = xr.DataArray(counted(seen), dims=("y", "x"))
    master = {"image": lazy, "variance": lazy + 3, "mask": lazy > 2, "n_used": lazy.astype(int)}
    axes = plot.master_planes(xr.Dataset(master), max_size=100)
    assert len(seen) == 8
    assert [shown(ax).mean() for ax in axes] == [1.0, 1.0, 2.0]
    plot.histogram(xr.Dataset(master))
    assert len(seen) == 16


@pytest.mark.parametrize("value", [np.nan, 5.0])
def test_an_image_of_one_value_can_be_drawn(value):
    ax = plot.show(np.full((4, 6), value), stretch="asinh", colorbar=False)
    ax.figure.canvas.draw()
    assert shown(ax).shape == (4, 6)


def test_levels_are_medians_over_time_in_groups(frames):
    ax = plot.levels(frames)
    names = [line.get_label() for line in ax.lines]
    assert sorted(names) == ["bias", "dark", "flat", "science"]
    line = ax.lines[names.index("flat")]
    flats = frames.query(frame="imagetyp == 'flat'")
    order = np.argsort(flats.date_obs.values)
    expected = np.median(flats.image.values, axis=(1, 2))[order]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert ax.get_xlabel() == "UTC"
    assert ax.get_ylabel() == "median, adu"
    by_filter = plot.levels(flats, by="filter", statistic="mean")
    assert {one.get_label() for one in by_filter.lines} == {"V", "B"}


def test_levels_without_times_are_in_order(frames):
    dates = frames.date_obs.values.copy()
    dates[0] = np.datetime64("NaT")
    ax = plot.levels(frames.assign_coords(date_obs=("frame", dates)))
    assert ax.get_xlabel() == "frame"


def test_levels_of_several_nights_are_in_order_of_time():
    frames = many_frames(6, np.timedelta64(1, "D")).isel(frame=[3, 1, 0, 2, 5, 4])
    ax = plot.levels(frames.assign_coords(imagetyp=("frame", ["bias"] * 6)))
    assert ax.get_xlabel() == "frame, in order of time"
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert (np.diff(ax.lines[0].get_ydata()) > 0).all()


def test_levels_far_apart_have_a_logarithmic_axis(frames):
    assert plot.levels(frames.query(frame="imagetyp == 'bias'")).get_yscale() == "linear"
    far = many_frames(4, np.timedelta64(1, "m"))
    far["image"] = far.image * xr.DataArray([1, 1, 1, 40], dims="frame")
    assert plot.levels(far, by="filter").get_yscale() == "log"


def test_a_histogram_shows_median_spread_and_the_noise_that_is_expected():
    rng = np.random.default_rng(2)
    image = rng.normal(500, 12, (300, 400)).astype(np.float32)
    data = xr.Dataset(
        {"image": (("y", "x"), image, {"units": "electron"}),
         "variance": (("y", "x"), np.full(image.shape, 144.0))}
    )  # fmt: skip
    ax = plot.histogram(data, label="a")
    counts = ax.patches[0].get_data().values
    assert 0.99 * image.size < counts.sum() <= image.size
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0].startswith("a: median 50")
    assert labels[0].endswith("electron")
    assert labels[1] == "noise model, σ 12 electron"
    model = ax.lines[-1].get_ydata()
    near = model > 200
    np.testing.assert_allclose(counts[near], model[near], rtol=0.3)
    assert len(plot.histogram(data, noise=False).lines) == 1


@pytest.mark.parametrize("sigma", [0.7, 1.2, 6.0])
def test_the_spread_of_whole_numbers_is_not_that_of_their_steps(sigma):
    image = np.rint(np.random.default_rng(3).normal(1000.3, sigma, (400, 500)))
    ax = plot.histogram(image)
    found = ax.get_legend().get_texts()[0].get_text()
    median, spread = (float(word) for word in re.findall(r"[\d.]+", found))
    assert abs(median - 1000.3) < 0.02 * sigma + 0.05
    assert abs(spread / sigma - 1) < 0.08  # of whole numbers alone: 0.0 or 1.48


def test_a_raw_bias_has_the_noise_of_its_read_out(frames):
    bias = frames.query(frame="imagetyp == 'bias'").isel(frame=0)
    ax = plot.histogram(bias)
    assert "noise model, σ 4 adu" in [text.get_text() for text in ax.get_legend().get_texts()]
    edges = ax.patches[0].get_data().edges
    np.testing.assert_allclose(np.diff(edges) % 1, 0)  # bins of whole numbers
    science = frames.query(frame="imagetyp == 'science'").isel(frame=0)
    assert len(plot.histogram(science).lines) == 1  # with its bias in it, no model holds


def test_rejected_fractions_name_the_frame(frames):
    flats = frames.query(frame="imagetyp == 'flat' and filter == 'V'")
    master = daskcal.combine(flats, scale="median", reject="sigma", rejected=True)
    ax = plot.rejected_fractions(master)
    np.testing.assert_allclose(
        [bar.get_width() for bar in ax.patches], 100 * master.rejected_fraction.values
    )
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"flat_V_{i}.fits" for i in range(4)]
    with pytest.raises(ArgumentError, match="rejected=True"):
        plot.rejected_fractions(master.drop_vars("rejected_fraction"))


def test_a_master_is_drawn_with_its_counts_and_noise(frames):
    flats = frames.query(frame="imagetyp == 'flat' and filter == 'V'")
    master = daskcal.combine(flats, scale="median")
    axes = plot.master_planes(master)
    assert [ax.get_title() for ax in axes] == [
        "value", "values used", "standard deviation", "rejected below", "rejected above",
    ]  # fmt: skip
    np.testing.assert_allclose(shown(axes[2]), np.sqrt(master.variance.values), rtol=1e-5)
    np.testing.assert_allclose(shown(axes[1]), master.n_used.values)


def test_a_pair_has_a_stretch_each(frames):
    left, right = plot.pair(frames.isel(frame=0), np.arange(12.0).reshape(3, 4))
    assert (left.get_title(), right.get_title()) == ("before", "after")
    assert right.images[0].norm.vmax <= 11 < left.images[0].norm.vmin


def test_a_plan_is_drawn_as_boxes_and_lines(raw, tmp_path):
    plan = daskcal.plan_night(raw)
    ax = plot.plan_graph(plan)
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert texts == [
        "bias\n4 frames", "dark_60s\n2 frames", "flat_B\n4 frames", "flat_V\n4 frames",
        "2 products\nm67_B_0 …", "2 products\nm67_V_0 …",
    ]  # fmt: skip
    taken = [(job.name, name) for job in plan.jobs for name in job.master_names]
    of_science = {(kind, name) for kind, name in taken if kind.startswith("science")}
    lines = [text for text in ax.texts if not text.get_text()]
    assert len(lines) == len(taken) - len(of_science) // 2  # two frames share a box


def test_what_a_plan_cannot_make_is_in_its_graph(tmp_path):
    raw = make(tmp_path / "raw", science=1)
    for path in raw.glob("flat_B_*"):
        path.unlink()
    ax = plot.plan_graph(daskcal.plan_night(raw))
    assert any("cannot be made" in text.get_text() for text in ax.texts)
    ax.figure.canvas.draw()


def test_many_masters_share_the_last_box(monkeypatch, raw):
    monkeypatch.setattr("daskcal.plot.graph._MOST", 1)
    ax = plot.plan_graph(daskcal.plan_night(raw))
    assert "2 products\nflat_B …" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: plot.show(f), "there are 18 frames"),
        (lambda f: plot.show(f.isel(frame=0), plane="flux"), "no 'flux' here, but image"),
        (lambda f: plot.show(np.zeros(3)), r"\(3,\)"),
        (lambda f: plot.show(np.zeros((2, 2)), stretch="asin"), "did you mean 'asinh'"),
        (lambda f: plot.show(np.zeros((2, 2)), percent=0), "percent=0"),
        (lambda f: plot.show(np.zeros((2, 2)), max_size=0), "max_size=0"),
        (lambda f: plot.show(np.zeros((2, 2)), hdu=1), "hdu=1 is for a file"),
        (lambda f: plot.show(np.zeros((2, 2), complex)), "complex128"),
        (lambda f: plot.show(np.zeros((0, 2))), r"\(0, 2\)"),
        (lambda f: plot.mosaic(f), "a DataTree with a node for each detector"),
        (lambda f: plot.histogram(np.full((2, 2), np.nan)), "no good pixel"),
        (lambda f: plot.histogram(np.ones((2, 2)), bins=0), "bins=0"),
        (lambda f: plot.levels(f.isel(frame=0)), r"image \(frame, y, x\)"),
        (lambda f: plot.levels(f, by="color"), "by='color'"),
        (lambda f: plot.levels(f, statistic="mode"), "statistic='mode'"),
    ],
)
def test_refused(frames, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(frames)


def test_a_misspelt_keyword_is_refused():
    with pytest.raises(UnknownKeywordError, match="did you mean 'percent'"):
        plot.show(np.zeros((2, 2)), percents=3)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ArgumentError, match=r"pip install 'daskcal\[plot\]'"):
        plot.show(np.zeros((2, 2)))

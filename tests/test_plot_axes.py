"""Pictures on matplotlib's Axes: the right pixels, labels and units, lazy data by blocks."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_night import make

import daskcal
from daskcal import plot
from daskcal.errors import ArgumentError, UnknownKeywordError
from daskcal.plot import lazily

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _figures():
    """No window opens, and no figure stays."""
    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


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
    np.testing.assert_allclose(lazily.small(data, "image", -(-44 // block)), expected)


def test_of_tall_blocks_the_rows_in_the_middle_count():
    image = np.zeros((60, 40))
    image[::20], image[19::20] = 1e6, 1e6  # the ends of blocks of 20
    data = xr.Dataset({"image": (("y", "x"), image)}).chunk({"y": 16})
    assert (lazily.small(data, "image", 3) == 0).all()
    image[10] = 8.0
    data = xr.Dataset({"image": (("y", "x"), image)}).chunk({"y": 16})
    np.testing.assert_allclose(lazily.small(data, "image", 3)[0], 1.0)


def test_an_image_stands_upright_in_detector_pixels_with_its_unit(frames):
    frame = frames.isel(frame=0, y=slice(4, 20), x=slice(10, 32))
    ax = plot.image(frame, title="M 67")
    np.testing.assert_allclose(shown(ax), frame.image.values)
    assert ax.images[0].origin == "lower"
    assert tuple(ax.images[0].get_extent()) == (9.5, 31.5, 3.5, 19.5)
    assert ax.get_title() == "M 67"
    assert ax.get_xlabel() == "x, pixels"
    assert ax.images[0].colorbar.ax.get_ylabel() == "adu"


def test_masked_pixels_are_blue_and_do_not_drive_the_stretch():
    image = np.tile(np.linspace(100, 200, 50), (40, 1))
    image[0] = 1e9
    mask = np.zeros(image.shape, np.uint16)
    mask[0] = 1
    ax = plot.image(xr.Dataset({"image": (("y", "x"), image), "mask": (("y", "x"), mask)}))
    assert np.isnan(shown(ax)[0]).all()
    assert ax.images[0].norm.vmax <= 200
    bad = np.array(ax.images[0].cmap.get_bad())[:3] * 255
    np.testing.assert_allclose(bad, plot.UNDEFINED_COLOUR)


def test_lazy_pixels_are_read_once_and_by_blocks():
    seen = []

    def block(block_info=None):
        shape = block_info[None]["chunk-shape"]
        seen.append(shape)
        return np.ones(shape, np.float32)

    import dask.array as da

    lazy = da.map_blocks(
        block, chunks=((100,) * 8, (500,)), dtype=np.float32, meta=np.empty((0, 0))
    )
    plot.image(xr.DataArray(lazy, dims=("y", "x")), max_size=100)
    assert seen == [(100, 500)] * 8


@pytest.mark.parametrize("value", [np.nan, 5.0])
def test_an_image_of_one_value_can_be_drawn(value):
    ax = plot.image(np.full((4, 6), value), stretch="asinh", colorbar=False)
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
    assert labels[1] == "noise model, σ 12"
    model = ax.lines[-1].get_ydata()
    near = model > 200
    np.testing.assert_allclose(counts[near], model[near], rtol=0.3)
    assert len(plot.histogram(data, noise=False).lines) == 1


def test_a_raw_bias_has_the_noise_of_its_read_out(frames):
    bias = frames.query(frame="imagetyp == 'bias'").isel(frame=0)
    ax = plot.histogram(bias)
    assert "noise model, σ 4" in [text.get_text() for text in ax.get_legend().get_texts()]
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
        (lambda f: plot.image(f), "there are 18 frames"),
        (lambda f: plot.image(f.isel(frame=0), plane="flux"), "no 'flux' here, but image"),
        (lambda f: plot.image(np.zeros(3)), r"\(3,\)"),
        (lambda f: plot.image(np.zeros((2, 2)), stretch="asin"), "did you mean 'asinh'"),
        (lambda f: plot.image(np.zeros((2, 2)), percent=0), "percent=0"),
        (lambda f: plot.image(np.zeros((2, 2)), max_size=0), "max_size=0"),
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
        plot.image(np.zeros((2, 2)), percents=3)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ArgumentError, match=r"pip install 'daskcal\[plot\]'"):
        plot.image(np.zeros((2, 2)))

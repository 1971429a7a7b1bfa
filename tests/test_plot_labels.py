"""Labels of pictures: with long names, many frames and many detectors none is cut off or hidden."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from small_night import many_frames

from daskcal import plot

pytestmark = pytest.mark.usefixtures("figures")


def texts_apart(texts) -> None:
    """No text stands on another."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def within(ax) -> None:
    """Nothing of the figure is cut off at its edges."""
    figure = ax.figure
    figure.canvas.draw()
    found, whole = figure.get_tightbbox(), figure.get_size_inches()
    assert found.x0 > -0.02
    assert found.y0 > -0.02
    assert found.x1 < whole[0] + 0.02
    assert found.y1 < whole[1] + 0.02


LONG = "some_rather_long_name_of_an_observatory_and_its_programme_{:05d}.fits.fz"


@pytest.mark.parametrize("count", [30, 200])
def test_long_names_of_many_frames_stand_apart(count):
    shares = np.random.default_rng(0).gamma(4, 0.1, count) / 100
    shares[17] = 0.09
    names = np.array([LONG.format(i) for i in range(count)], object)
    ax = plot.rejected_fractions(
        xr.Dataset({"rejected_fraction": ("input", shares)}, {"input": names})
    )
    within(ax)
    texts_apart(ax.get_yticklabels())
    assert any(text.get_text().endswith("00017.fits.fz") for text in ax.get_yticklabels())


def test_levels_of_many_filters_have_a_legend_beside_them():
    ax = plot.levels(many_frames(200, np.timedelta64(3, "m")), by="filter")
    within(ax)
    legend = ax.get_legend()
    texts_apart([*legend.get_texts(), *ax.get_xticklabels()])
    assert legend.get_window_extent().x0 > ax.get_window_extent().x1
    assert len({text.get_text() for text in legend.get_texts()}) == 20
    styles = {(line.get_color(), line.get_marker()) for line in ax.lines}
    assert len(styles) == 20


@pytest.mark.parametrize("span", [1, 40, 61, 170, 240, 3000, 9000, 20_000, 129_000])
def test_times_have_a_few_ticks_whatever_they_span(span):
    frames = many_frames(2, np.timedelta64(span, "s"))
    ax = plot.levels(frames, by="filter")
    within(ax)
    assert ax.get_xlabel() == "UTC"
    assert 1 <= len(ax.get_xticklabels()) <= 9
    texts_apart(ax.get_xticklabels())


def test_a_plan_of_many_long_names_stands_apart():
    class Job:
        def __init__(self, name, kind, masters):
            self.name, self.kind, self.masters, self.frames = name, kind, masters, range(3)

    jobs = [Job(f"masters/bias_{i}.fits", "bias", {}) for i in range(20)]
    jobs += [
        Job(f"masters/flat_{LONG.format(i)}", "flat", {"bias": [f"masters/bias_{i}.fits"]})
        for i in reversed(range(20))
    ]
    missing = [Job("science/" + LONG.format(1), "science", {})]
    ax = plot.plan_graph(SimpleNamespace(jobs=jobs, missing=missing))
    within(ax)
    boxes = [text for text in ax.texts if text.get_text()]
    texts_apart(boxes)
    heights = {text.get_text(): text.get_position()[1] for text in boxes}
    for i in range(20):  # each flat stands beside its bias
        (flat,) = (y for name, y in heights.items() if f"_{i:05d}.fits" in name and y > -0.5
                   and "cannot" not in name)  # fmt: skip
        assert flat == heights[f"bias_{i}\n3 frames"]


@pytest.mark.parametrize("shape", [(64, 60), (30, 200), (200, 30)])
def test_nothing_is_cut_off_or_on_something_else(shape):
    image = np.random.default_rng(1).normal(41000, 900, shape)
    data = xr.Dataset({"image": (("y", "x"), image, {"units": "electron / s"})})
    data = data.assign(variance=data.image**0.5, n_used=(data.image > 0).astype(np.uint16))
    ax = plot.show(data, title="a title of many words " * 6)
    within(ax)
    assert ax.title.get_window_extent().width < 1.15 * ax.figure.get_window_extent().width
    for axes in (plot.pair(data, data), plot.master_planes(data)):
        within(axes[0])
        figure = axes[0].figure
        labels = [each.yaxis.label for each in figure.axes] + [each.title for each in axes]
        texts_apart(labels)

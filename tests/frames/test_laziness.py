"""Nothing is read before it is computed, then only what was selected, and once."""

import pickle
from dataclasses import replace

import dask
import numpy as np
import pytest
import xarray as xr
from raw_fits import counted_reads, no_computing, write_frames

import daskcal
from daskcal.frames.stack import LAYOUT

N, NY, NX = 6, 40, 64
RNG = np.random.default_rng(2)
IMAGES = [RNG.integers(500, 60000, (NY, NX), np.uint16) for _ in range(N)]
FRAME_BYTES = NY * NX * 2


def master(value, **attrs):
    image = np.full((NY, NX), value, np.float32)
    variables = {"image": (("y", "x"), image, {"units": "adu"})}
    coords = {"y": np.arange(NY), "x": np.arange(NX)}
    return xr.Dataset(variables, coords, {"darktime": 60.0, **attrs})


@pytest.fixture
def frames(tmp_path):
    exposures = [10.0, 20.0, 30.0, 10.0, 20.0, 30.0]
    paths = write_frames(tmp_path / "raw", IMAGES, EXPTIME=exposures, FILTER=list("VRVRVR"))
    return daskcal.open_frames(paths)


def calibrated(frames):
    return daskcal.calibrate(
        frames,
        saturation=60000,
        overscan="[:, 60:]",
        trim="[:, :60]",
        gain=True,
        bias=master(100).assign(image=lambda d: d.image.assign_attrs(units="electron")),
        dark={
            "dark": master(5).image.assign_attrs(units="electron").to_dataset(),
            "tolerance": None,
        },
        flat=master(2),
    )


def test_opening_selecting_and_calibrating_reads_and_computes_nothing(tmp_path, monkeypatch):
    paths = write_frames(tmp_path / "raw", IMAGES, FILTER=list("VRVRVR"))
    with counted_reads(monkeypatch) as reads, no_computing():
        frames = daskcal.open_frames(paths)
        chosen = frames.query(frame="filter == 'V' and exptime < 100").isel(frame=[2, 0])
        chosen = chosen.sortby("path", ascending=False).isel(y=slice(3, 20)).sel(x=slice(0, 63))
        for _, group in calibrated(frames).groupby("filter"):
            repr(daskcal.blocks(group))
            daskcal.combine(group)
        calibrated(frames).copy(deep=True).pipe(daskcal.trim_image, "[2:, :]")
        repr(chosen - 3), repr(frames.image.astype(float) / 2)
    assert reads.bytes == 0


def test_a_selection_reads_its_frames_rows_and_columns_only(frames, monkeypatch):
    with counted_reads(monkeypatch) as reads:
        values = frames.isel(frame=[4, 1]).image.values
    assert reads.files == ["f4.fits", "f1.fits"] or sorted(reads.files) == ["f1.fits", "f4.fits"]
    assert reads.bytes == 2 * FRAME_BYTES
    np.testing.assert_array_equal(values, [IMAGES[4], IMAGES[1]])
    with counted_reads(monkeypatch) as reads:
        values = frames.isel(frame=[4, 1], y=slice(10, 15)).image.values
    assert reads.bytes == 2 * 5 * NX * 2
    np.testing.assert_array_equal(values, [IMAGES[4][10:15], IMAGES[1][10:15]])
    with counted_reads(monkeypatch) as reads:
        value = frames.image[3, 7, 9].values
    assert reads.bytes == 2
    assert value == IMAGES[3][7, 9]


def test_columns_are_skipped_where_pages_are(tmp_path, monkeypatch):
    image = RNG.integers(0, 9, (3, 5000), np.uint16)
    frames = daskcal.open_frames(write_frames(tmp_path / "wide", [image]))
    for chosen in (frames.isel(x=slice(100, 120)), daskcal.blocks(frames.isel(x=slice(100, 120)))):
        with counted_reads(monkeypatch) as reads:
            values = chosen.image.values
        assert reads.bytes == 3 * 20 * 2
        np.testing.assert_array_equal(values[0], image[:, 100:120])


def test_integers_steps_and_lists_along_pixels(frames):
    stack = np.array(IMAGES)
    for index in (
        np.s_[2], np.s_[:, 5], np.s_[:, :, -1], np.s_[::2, ::3, 5:50:7], np.s_[::-1, ::-1],
        np.s_[[3, 3, 0]], np.s_[:, [9, 2, 2]], np.s_[-2:, -1:, :0],
    ):  # fmt: skip
        np.testing.assert_array_equal(frames.image.data[index].compute(), stack[index])


def test_stack_blocks_read_each_selected_pixel_once(frames, monkeypatch):
    chosen = frames.query(frame="filter == 'V'").isel(y=slice(4, 36), frame=[2, 0])
    cut = daskcal.blocks(chosen, frame=-1, rows=8)
    assert cut.image.chunks == ((2,), (8, 8, 8, 8), (NX,))
    with counted_reads(monkeypatch) as reads:
        values = cut.image.values
    assert reads.bytes == 2 * 32 * NX * 2
    assert len(reads.files) == 2 * 4
    np.testing.assert_array_equal(values, [IMAGES[4][4:36], IMAGES[0][4:36]])


def test_calibrated_frames_selected_afterwards_still_read_once(frames, monkeypatch):
    done = calibrated(frames)
    whole = done.compute()
    chosen = done.query(frame="filter == 'R'").isel(frame=slice(1, 3), y=slice(8, 24))
    cut = daskcal.blocks(chosen, frame=-1, rows=4)
    with counted_reads(monkeypatch) as reads:
        values = cut.compute()
    assert reads.bytes == 2 * 16 * NX * 2
    assert sorted(set(reads.files)) == ["f3.fits", "f5.fits"]
    expected = whole.isel(frame=[3, 5], y=slice(8, 24))
    xr.testing.assert_identical(values, expected)


def test_image_and_mask_come_from_one_read(tmp_path, monkeypatch):
    images = [image.astype(np.float32) for image in IMAGES]
    frames = daskcal.open_frames(write_frames(tmp_path / "floats", images))
    with counted_reads(monkeypatch) as reads:
        frames.compute()
    assert reads.bytes == N * NY * NX * 4
    with counted_reads(monkeypatch) as reads:
        dask.compute(*daskcal.combine(frames, reject="none").data_vars.values())
    assert reads.bytes == N * NY * NX * 4


def test_all_products_of_a_calibration_in_one_read(frames, monkeypatch):
    noisy = daskcal.create_variance(daskcal.subtract_overscan(frames, "[:, 60:]"))
    with counted_reads(monkeypatch) as reads:
        daskcal.blocks(noisy, frame=-1, rows=16).compute()
    assert reads.bytes == N * FRAME_BYTES


def test_a_fitted_overscan_reads_its_pixels_first_and_no_more(tmp_path, monkeypatch):
    images = [RNG.integers(500, 900, (12, 4200), np.uint16) for _ in range(3)]
    frames = daskcal.open_frames(write_frames(tmp_path / "wide", images))
    done = daskcal.subtract_overscan(frames, "[:, 4180:]", model="polynomial", order=1)
    with counted_reads(monkeypatch) as reads:
        daskcal.blocks(done.isel(frame=[1]), rows=4).compute()
    assert reads.bytes == 12 * (4200 + 20) * 2
    assert set(reads.files) == {"f1.fits"}


def test_a_users_arithmetic_stays_lazy(frames, monkeypatch):
    with counted_reads(monkeypatch) as reads, no_computing():
        changed = frames.assign(image=frames.image.astype(np.float32) * 2 + 1)
        changed.image.attrs = frames.image.attrs
        cut = daskcal.blocks(changed.isel(frame=[1, 0]), frame=-1, rows=8)
        done = daskcal.gain_correct(daskcal.subtract_overscan(cut, "[:, 60:]"), gain=2)
    assert reads.bytes == 0
    expected = np.array(IMAGES, np.float64)[[1, 0]] * 2 + 1
    np.testing.assert_array_equal(cut.image.values, expected)
    expected = 2 * (expected - np.median(expected[:, :, 60:], axis=2)[:, :, None])
    np.testing.assert_allclose(done.image.values, expected, rtol=1e-6)


# --- graphs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """1,000 frames of a survey's headers; the pixels are of four files."""
    from daskcal.fits import scan
    from daskcal.frames.open import frames_dataset
    from daskcal.frames.table import frame_table

    folder = tmp_path_factory.mktemp("thousand") / "raw"
    image = np.zeros((256, 128), np.uint16)
    paths = write_frames(folder, [image] * 4, **{f"CARD{i}": i for i in range(40)})
    found = [
        replace(frame, source=replace(frame.source, path=f"{frame.source.path}.{i}"))
        for i in range(250)
        for frame in scan(paths, index=False).frames
    ]
    return frames_dataset(found, frame_table(found))


def test_the_graph_of_a_thousand_frames_is_small(thousand):
    with no_computing():
        master = daskcal.combine(calibrate_large(thousand))
        graph = master.__dask_graph__()
    recipes = [name for name in graph.layers if name.startswith(LAYOUT)]
    assert len(recipes) == 1
    size = len(pickle.dumps(graph))
    table = len(pickle.dumps(graph.layers[recipes[0]][recipes[0]].recipe))
    assert size < 1.2 * table + FLAT.nbytes + 30_000
    bands = len(master.image.chunks[0])
    optimized = dask.optimize(master)[0].__dask_graph__()
    assert len(dict(optimized)) < 1000 / 10 + 40 * bands


FLAT = np.ones((256, 128), np.float32)


def calibrate_large(frames):
    flat = xr.Dataset({"image": (("y", "x"), FLAT)})
    frames = daskcal.subtract_overscan(frames, "[:, 120:]")
    return daskcal.flat_correct(daskcal.trim_image(frames, "[:, :120]"), flat)


def test_a_selection_takes_only_its_own_table(thousand):
    few = daskcal.blocks(thousand.isel(frame=slice(0, 20)), frame=-1, rows=64)
    whole = daskcal.blocks(thousand, frame=-1, rows=64)
    sizes = [len(pickle.dumps(ds.image.data.dask)) for ds in (few, whole)]
    assert sizes[0] < sizes[1] / 10


def test_a_fitted_overscan_makes_tasks_for_frames_and_bands_not_their_product(thousand):
    done = daskcal.subtract_overscan(thousand, "[:, 120:]", model="polynomial")
    cut = daskcal.blocks(done, frame=-1, rows=8)
    n_bands = len(cut.image.chunks[1])
    assert n_bands == 32
    assert len(dict(cut.image.data.dask)) < 8 * 1000 + 20 * n_bands


# --- elsewhere ------------------------------------------------------------------------------------


def test_a_pickled_dataset_computes_the_same(frames):
    done = calibrated(frames)
    again = pickle.loads(pickle.dumps(done))
    xr.testing.assert_identical(again.compute(), done.compute())
    chosen = daskcal.blocks(again.isel(frame=[3, 1]), frame=-1, rows=8)
    xr.testing.assert_identical(chosen.compute(), done.isel(frame=[3, 1]).compute())


def test_the_bits_are_those_of_any_layout_and_scheduler(frames):
    done = calibrated(frames)
    with dask.config.set(scheduler="sync"):
        expected = done.compute()
    for frame, rows in ((1, 1), (-1, 7), (2, -1)):
        xr.testing.assert_identical(daskcal.blocks(done, frame, rows).compute(), expected)


def test_a_cluster_computes_the_same(frames):
    distributed = pytest.importorskip("distributed")
    done = calibrated(frames)
    chosen = daskcal.blocks(done.isel(frame=[5, 0]), rows=8)
    expected = chosen.compute(scheduler="threads")
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
    ):
        xr.testing.assert_identical(chosen.compute(), expected)

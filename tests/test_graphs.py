"""A thousand frames: building reads nothing, graphs follow the blocks, each byte is read once."""

from __future__ import annotations

import pickle
from collections import Counter
from contextlib import contextmanager

import dask
import numpy as np
import pytest
import xarray as xr

import daskcal
from daskcal.fits import source as reading

ROWS, COLUMNS, OVERSCAN = 128, 80, 8
N = 1000
FRAME_BYTES = ROWS * COLUMNS * 2
TRIMMED = f"[:, :{COLUMNS - OVERSCAN}]"
BANDS = 4  # of 32 rows, however many frames there are
LEVEL = 1000


def write_frame(path, pixels, **keywords):
    """A small FITS file of uint16, without astropy's time."""
    cards = {
        "SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": pixels.shape[1],
        "NAXIS2": pixels.shape[0], "BZERO": 32768, "BUNIT": "'adu     '", "GAIN": 2.0,
        "RDNOISE": 5.0, "EXPTIME": 10.0, **keywords,
    }  # fmt: skip
    head = "".join(f"{name:<8}= {value!s:>20}".ljust(80) for name, value in cards.items())
    data = (pixels.astype("u2") ^ 0x8000).astype(">u2").tobytes()
    head = (head + "END").ljust(2880).encode()
    path.write_bytes(head + data.ljust(-(-len(data) // 2880) * 2880, b"\0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A thousand frames; the i-th is LEVEL + i, with a bit of structure along the rows."""
    folder = tmp_path_factory.mktemp("thousand")
    structure = np.arange(ROWS)[:, None] % 7 + np.zeros(COLUMNS, int)
    for i in range(N):
        kind = "'bias'" if i % 50 == 0 else "'object'"
        write_frame(folder / f"f{i:04d}.fits", structure + LEVEL + i, IMAGETYP=kind)
    return folder


@pytest.fixture(scope="module")
def frames(folder):
    with nothing_is_computed():
        return daskcal.open_frames(folder)


@pytest.fixture(scope="module")
def masters(folder, tmp_path_factory):
    """Paths of a master bias, dark and flat, as daskcal writes them."""
    out = tmp_path_factory.mktemp("masters")
    some = daskcal.open_frames([folder / f"f{i:04d}.fits" for i in range(5)])
    some = daskcal.subtract_overscan(some, "[:, 72:]").pipe(daskcal.trim_image, TRIMMED)
    bias = daskcal.combine(some)
    daskcal.to_fits(bias, out / "bias.fits")
    dark = daskcal.subtract_bias(some, daskcal.open_master(out / "bias.fits"))
    daskcal.to_fits(daskcal.combine(dark), out / "dark.fits")
    flat = xr.full_like(bias.compute(), 1.0)
    flat.attrs["steps"] = bias.attrs["steps"]
    daskcal.to_fits(flat.drop_vars("mask"), out / "flat.fits")
    return {name: out / f"{name}.fits" for name in ("bias", "dark", "flat")}


@contextmanager
def nothing_is_computed():
    """Fail when a pixel is read or a graph computed."""

    def refuse(*_, **__):
        raise AssertionError("something was computed or read")

    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler=refuse):
        patch.setattr(reading, "fill", refuse)
        yield


@contextmanager
def reads():
    """What is read meanwhile: a list of (path, first byte, one past the last)."""
    found = []

    def fill(source, handle, target, offset):
        found.append((source.path, offset, offset + target.nbytes))
        return original(source, handle, target, offset)

    original = reading.fill
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "fill", fill)
        yield found


def n_bytes(found):
    return sum(stop - start for _, start, stop in found)


def assert_each_byte_once(found):
    by_file = {}
    for path, start, stop in sorted(found):
        assert start >= by_file.get(path, 0), f"{path} was read twice from {start}"
        by_file[path] = stop


def tasks(collection):
    """The tasks that a scheduler would get, without mere names of others."""
    (optimised,) = dask.optimize(collection)
    graph = dict(optimised.__dask_graph__())
    return {key: task for key, task in graph.items() if type(task).__name__ != "Alias"}


def kinds(collection):
    """How many tasks of each name."""
    names = (key[0] if isinstance(key, tuple) else key for key in tasks(collection))
    return Counter(name.rsplit("-", 1)[0] for name in names)


def reduced(frames, masters, **options):
    """Everything from opened frames to one combined image."""
    calibrated = daskcal.calibrate(
        frames,
        saturation=60000,
        overscan=options.pop("overscan", "[:, 72:]"),
        trim=TRIMMED,
        **{name: daskcal.open_master(path) for name, path in masters.items()},
    )
    return daskcal.combine(calibrated, **options)


# --- building -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "fitted"), [(None, False), ("median", True)])
def test_building_reads_and_computes_nothing(frames, masters, tmp_path, scale, fitted):
    overscan = {"overscan": "[:, 72:]", "model": "legendre"} if fitted else "[:, 72:]"
    with nothing_is_computed():
        master = reduced(frames, masters, overscan=overscan, scale=scale)
        daskcal.to_fits(master, tmp_path / "master.fits", compute=False)
    assert dict(master.sizes) == {"y": ROWS, "x": COLUMNS - OVERSCAN}
    assert list(tmp_path.iterdir()) == []


def test_how_a_dataset_is_shown_in_a_notebook_computes_nothing(frames, masters):
    with nothing_is_computed():
        for shown in (frames, reduced(frames, masters)):
            assert "image" in shown._repr_html_()
            assert "image" in shown.image._repr_html_() + repr(shown)


@pytest.mark.usefixtures("figures")
def test_pictures_of_lazy_pixels_read_each_byte_once(frames):
    from daskcal import plot

    some = frames.isel(frame=slice(3, 9))
    calibrated = daskcal.calibrate(some, saturation=60000, overscan="[:, 72:]", trim=TRIMMED)
    pictures = [
        (1, lambda: plot.show(some.isel(frame=0))),
        (1, lambda: plot.show(calibrated.isel(frame=0))),
        (1, lambda: plot.histogram(calibrated.isel(frame=0))),
        (6, lambda: plot.levels(calibrated)),
        (6, lambda: plot.master_planes(daskcal.combine(calibrated))),
    ]
    for n, draw in pictures:
        with reads() as found:
            draw()
        assert_each_byte_once(found)
        assert n_bytes(found) == n * FRAME_BYTES


@pytest.mark.parametrize("n", [10, N])
def test_tasks_follow_the_bands_and_not_the_frames(frames, n, tmp_path):
    master = daskcal.combine(frames.isel(frame=slice(n)))
    assert master.image.data.numblocks == (BANDS, 1)
    planes = len(master.data_vars)
    assert len(tasks(master.image)) == 1 + BANDS  # the table of frames, one task a band
    assert len(tasks(master)) == 1 + BANDS * (1 + planes)
    (file,) = daskcal.to_fits(master, tmp_path / "master.fits", compute=False)
    assert len(tasks(file)) == 3 + BANDS * 2  # and preparing and finishing the file


def test_calibration_adds_its_masters_bands_and_nothing_else(frames, masters, tmp_path):
    found = {}
    for n in (10, N):
        master = reduced(frames.isel(frame=slice(n)), masters)
        (file,) = daskcal.to_fits(master, tmp_path / "master.fits", compute=False)
        found[n] = kinds(file)
    assert found[N]["combine_band"] == found[N]["fits-band"] == BANDS
    assert "daskcal-block" not in found[N]  # reading, calibrating and combining are one task
    planes = 3 + 4 + 3  # of bias, dark and flat: each is read once and cut into bands
    assert sum(found[N].values()) == sum(found[10].values())
    assert sum(found[N].values()) <= BANDS * (3 + planes) + planes + 10


def test_a_scale_adds_one_task_for_each_frame(frames, masters):
    few = frames.isel(frame=slice(100))
    for build in (daskcal.combine, lambda few, **options: reduced(few, masters, **options)):
        plain, scaled = build(few), build(few, scale="median")
        more = len(tasks(scaled.image)) - len(tasks(plain.image))
        assert 100 + 1 <= more <= 100 + 2 + 2 * 10  # and the masters' planes for whole frames


def test_a_fitted_overscan_adds_one_task_for_each_frame(frames, masters):
    def count(n, overscan):
        some = frames.isel(frame=slice(n))
        return len(tasks(reduced(some, masters, overscan=overscan).image))

    fitted = {"overscan": "[:, 72:]", "model": "legendre"}
    assert 60 < count(60, fitted) - count(60, "[:, 72:]") <= 60 + BANDS + 4
    assert count(90, fitted) - count(60, fitted) == 30


def test_the_table_of_frames_travels_once(frames, masters):
    sizes = {}
    for n, bands in ((10, 4), (10, 16), (N, 4), (N, 16)):
        with pytest.MonkeyPatch.context() as patch:
            rows = ROWS // bands
            patch.setattr("daskcal.combination.planes.band_rows", lambda *_, rows=rows, **__: rows)
            graph = tasks(reduced(frames.isel(frame=slice(n)), masters).image)
        sizes[n, bands] = sum(len(pickle.dumps(task)) for task in graph.values())
    assert (sizes[N, 4] - sizes[10, 4]) / (N - 10) < 200  # bytes a frame
    more_bands = [sizes[n, 16] - sizes[n, 4] for n in (10, N)]
    assert more_bands[1] == pytest.approx(more_bands[0], rel=0.02)


# --- computing ------------------------------------------------------------------------------------


def test_combining_selected_frames_reads_those_and_each_byte_once(frames):
    selected = frames.query(frame="imagetyp == 'bias'").isel(frame=slice(None, None, -1))
    assert selected.sizes["frame"] == 20
    master = daskcal.combine(selected, reject="none")
    with reads() as found:
        image = master.image.compute()
    assert {path for path, *_ in found} == set(selected.path.values)
    assert n_bytes(found) == 20 * FRAME_BYTES
    assert_each_byte_once(found)
    mean = LEVEL + np.mean(np.arange(0, N, 50))
    np.testing.assert_allclose(image.values[:, 0], mean + np.arange(ROWS) % 7, rtol=1e-6)


def test_several_results_of_one_combine_read_each_byte_once(frames, tmp_path):
    chosen = frames.isel(frame=[900, 3, 500])
    master = daskcal.combine(chosen)
    ways = {
        "dask.compute": lambda: dask.compute(master.image, master.variance, master.n_used),
        "Dataset.compute": master.compute,
        "Dataset.load": lambda: master.copy().load(),
        "to_fits": lambda: daskcal.to_fits(master, tmp_path / "master.fits"),
        "to_zarr": lambda: daskcal.to_zarr(master, tmp_path / "master.zarr"),
        "persist": master.persist,
    }
    for name, way in ways.items():
        with reads() as found:
            way()
        found = [read for read in found if read[0] in chosen.path.values]
        assert n_bytes(found) == 3 * FRAME_BYTES, name
        assert_each_byte_once(found)


@pytest.mark.parametrize("scale", ["median", "mean", np.median])
def test_a_scale_is_exactly_one_more_pass(frames, tmp_path, scale):
    master = daskcal.combine(frames.isel(frame=slice(5)), scale=scale)
    with reads() as found:
        daskcal.to_fits(master, tmp_path / "master.fits")
    found = [read for read in found if read[0].startswith(str(frames.path.values[0])[:-10])]
    assert n_bytes(found) == 2 * 5 * FRAME_BYTES
    whole = [(path, start, stop) for path, start, stop in found if stop - start == FRAME_BYTES]
    assert len(whole) == 5
    assert_each_byte_once(whole)
    assert_each_byte_once([read for read in found if read not in whole])


def test_given_scales_read_nothing_more(frames):
    master = daskcal.combine(frames.isel(frame=slice(3)), scale=[1, 2, 3.0])
    with reads() as found:
        master.compute()
    assert n_bytes(found) == 3 * FRAME_BYTES


def test_calibrated_frames_are_read_once_with_their_overscan(frames, masters):
    with reads() as found:
        reduced(frames.isel(frame=slice(4)), masters).compute()
    raw = [read for read in found if "thousand" in read[0]]
    assert n_bytes(raw) == 4 * FRAME_BYTES
    assert_each_byte_once(raw)


def test_frames_that_are_written_read_their_master_once(frames, masters, tmp_path):
    some = daskcal.subtract_overscan(frames.isel(frame=slice(1, 12)), "[:, 72:]")
    some = daskcal.trim_image(some, TRIMMED)
    science = daskcal.subtract_bias(some, daskcal.open_master(masters["bias"]))
    with reads() as found:
        assert len(daskcal.to_fits(science, tmp_path / "science")) == 11
    assert str(masters["bias"]) in {path for path, *_ in found}
    assert_each_byte_once(found)


def test_a_fitted_overscan_reads_the_overscan_pixels_twice_and_no_others(tmp_path):
    rows, columns, wide = 32, 2200, 2150
    for i in range(3):
        write_frame(tmp_path / f"{i}.fits", np.full((rows, columns), LEVEL + i))
    frames = daskcal.open_frames(tmp_path)
    fitted = daskcal.subtract_overscan(frames, f"[:, {wide}:]", model="legendre")
    master = daskcal.combine(daskcal.trim_image(fitted, f"[:, :{wide}]"), reject="none")
    with reads() as found:
        assert (master.image.compute() == 0).all()
    first = [read for read in found if read[2] - read[1] == (columns - wide) * 2]
    assert n_bytes(first) == 3 * rows * (columns - wide) * 2
    assert_each_byte_once(first)
    second = [read for read in found if read not in first]
    assert_each_byte_once(second)
    # rows are read whole where what lies between them is small
    assert n_bytes(second) <= 3 * rows * columns * 2

"""What a scan finds: folders, choice of HDU, cut and damaged files, real files."""

import errno
import os
import warnings

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits import is_product, read_detectors, read_pixels, scan

IMAGE = np.arange(120, dtype="u2").reshape(10, 12)


def scanned(paths, **kwargs):
    return scan(paths, index=False, **kwargs)


def reason(path, **kwargs):
    result = scanned(path, **kwargs)
    assert not result.frames
    return result.unreadable[0].reason


def save(path, *hdus):
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(list(hdus) or [fits.PrimaryHDU(IMAGE)]).writeto(path)
    return path


def extension(name="", image=IMAGE):
    return fits.ImageHDU(image, name=name)


def test_folders_are_recursive_in_natural_order_and_all_is_accounted_for(tmp_path):
    for name in ("img10.fits", "img2.fits", "b/x.FIT", "a b.fits", "img2.fts", ".hidden.fits"):
        save(tmp_path / name)
    save(tmp_path / ".hidden" / "x.fits")
    (tmp_path / "notes").write_text("no frame")
    (tmp_path / "notes1").write_text("no frame")
    (tmp_path / "self.fits").symlink_to(tmp_path / "self.fits")
    (tmp_path / "a.fits.gz").write_text("no gzip either")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.fits").symlink_to(tmp_path / "img2.fits")
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo.fits")
    os.mkfifo(tmp_path / "fifo")
    result = scanned(tmp_path)
    names = [os.path.relpath(f.source.path, tmp_path) for f in result.frames]
    assert names == ["a b.fits", "b/x.FIT", "img2.fits", "img2.fts", "img10.fits", "link.fits"]
    bad = {os.path.basename(u.path): u.reason for u in result.unreadable}
    assert bad == {
        "a.fits.gz": "not-fits",
        "fifo.fits": "not-fits",
        "gone.fits": "unreadable",
        "self.fits": "unreadable",
    }
    assert result.ignored == 3
    assert result.frames[2].fingerprint == result.frames[5].fingerprint


def test_paths_globs_and_folders_name_each_file_once(tmp_path):
    one, two = save(tmp_path / "1.fits"), save(tmp_path / "2.fits")
    result = scanned([two, str(tmp_path / "*.fits"), tmp_path, one])
    assert [f.source.path for f in result.frames] == [str(one), str(two)]


def test_names_with_brackets_and_odd_bytes_are_names(tmp_path):
    odd = save(tmp_path / "a[1].fits")
    raw = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.fits")
    os.link(odd, raw)
    assert [f.source.path for f in scan(odd).frames] == [str(odd)]
    for _ in range(2):
        assert raw in [f.source.path for f in scan(tmp_path).frames]


def test_a_missing_path_is_an_error_that_names_what_is_near(tmp_path):
    save(tmp_path / "night" / "bias1.fits")
    with pytest.raises(FrameError, match=r"did you mean .*night") as caught:
        scanned(tmp_path / "nihgt")
    assert caught.value.reason == "missing"
    with pytest.raises(FrameError, match=r"did you mean .*bias1"):
        scanned(tmp_path / "night" / "bias2.fits")
    with pytest.raises(FrameError, match="no file matches"):
        scanned(str(tmp_path / "*.fit"))


def test_arguments(tmp_path):
    with pytest.raises(ArgumentError, match="neither the index nor the EXTNAME"):
        scan(tmp_path, hdu=1.5)
    with pytest.raises(TypeError, match="did you mean 'hdu'"):
        scan(tmp_path, hud=1)
    assert scan([]) == scan(tmp_path)


def test_a_device_is_refused():
    assert reason("/dev/zero") == "not-fits"


def test_what_may_not_be_read_is_collected(tmp_path, monkeypatch):
    path = save(tmp_path / "x.fits")
    save(tmp_path / "y.fits")
    real = os.open

    def refusing(name, *args, **kwargs):
        if name == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    for _ in range(2):
        result = scan(tmp_path)
        assert [(u.path, u.reason) for u in result.unreadable] == [(str(path), "unreadable")]
        assert "Permission denied" in result.unreadable[0].message
        assert len(result.frames) == 1
    monkeypatch.undo()
    assert len(scan(tmp_path).frames) == 2  # the refusal was not kept


def test_the_first_image_is_the_frame_and_companions_are_none(tmp_path):
    path = save(
        tmp_path / "x.fits",
        fits.PrimaryHDU(),
        fits.BinTableHDU.from_columns([fits.Column("a", "I", array=[1, 2])]),
        extension("MASK"),
        extension("SCI"),
        extension("UNCERT"),
        extension("DQ"),
        extension("ERR_2"),
        extension("GUIDER", IMAGE[:5]),
    )
    assert [f.source.hdu for f in scanned(path).frames] == [3]
    assert [f.source.hdu for f in scanned(path, hdu="mask").frames] == [2]
    assert [f.source.hdu for f in scanned(path, hdu=7).frames] == [7]
    assert reason(path, hdu=1) == "no-image"
    assert reason(path, hdu=0) == "no-image"
    assert reason(path, hdu=12) == "no-image"
    assert reason(path, hdu="NONE") == "no-image"


def test_several_detectors_are_refused_and_listed(tmp_path):
    path = save(
        tmp_path / "x.fits", fits.PrimaryHDU(), extension("CCD1"), extension("CCD2", IMAGE + 1)
    )
    result = scanned(path)
    assert result.unreadable[0].reason == "several-detectors"
    for word in ("1 CCD1 10x12", "2 CCD2 10x12", "hdu="):
        assert word in result.unreadable[0].message
    assert scanned(path, hdu="ccd2").frames[0].source.hdu == 2
    frames = read_detectors(path)
    assert [frame.source.hdu for frame in frames] == [1, 2]
    np.testing.assert_array_equal(read_pixels(frames[1].source, (0, 10), (0, 12))[0], IMAGE + 1)


def test_axes(tmp_path):
    path = save(tmp_path / "x.fits", fits.PrimaryHDU(IMAGE[None]))
    source = scanned(path).frames[0].source
    np.testing.assert_array_equal(read_pixels(source, (0, 10), (0, 12))[0], IMAGE)
    assert (
        reason(save(tmp_path / "y.fits", fits.PrimaryHDU(np.stack([IMAGE] * 3)))) == "unsupported"
    )
    assert reason(save(tmp_path / "z.fits", fits.PrimaryHDU(IMAGE[0]))) == "unsupported"
    assert reason(save(tmp_path / "w.fits", fits.PrimaryHDU())) == "no-image"


def test_primary_cards_are_inherited_unless_the_extension_says_no(tmp_path):
    primary, image = fits.PrimaryHDU(), extension("SCI")
    primary.header["TELESCOP"], primary.header["OBJECT"] = "big", "theirs"
    primary.header["HISTORY"] = "made"
    image.header["OBJECT"] = "own"
    path = save(tmp_path / "x.fits", primary, image)
    frame = scanned(path).frames[0]
    assert frame.header["TELESCOP"] == "big"
    assert frame.header["OBJECT"] == "own"
    header = fits.Header.fromstring(frame.cards)
    assert header.count("OBJECT") == header.count("NAXIS") == header.count("BITPIX") == 1
    assert "SIMPLE" not in header
    assert "made" in str(header["HISTORY"])
    image.header["INHERIT"] = False
    assert "TELESCOP" not in scanned(save(tmp_path / "y.fits", primary, image)).frames[0].header


def test_products_are_told_from_raw_frames():
    assert is_product({"COMBINED": True})
    assert is_product({"DASKCAL": "0.1"})
    assert not is_product({"COMBINED": False, "NCOMBINE": 1})


def test_a_file_cut_anywhere_is_refused_and_never_a_crash(tmp_path):
    good = save(tmp_path / "good.fits", fits.PrimaryHDU(IMAGE), extension("MASK")).read_bytes()
    path = tmp_path / "cut.fits"
    end_of_data = 5760 + 2880 + IMAGE.nbytes
    for length in [*range(0, len(good), 160), end_of_data - 1, end_of_data]:
        path.write_bytes(good[:length])
        result = scanned(path)
        # one that ends in, or after, the padding of its first HDU looks whole
        data_complete = length >= end_of_data or 2880 + IMAGE.nbytes <= length <= 5760
        assert bool(result.frames) == data_complete, length
        if not data_complete:
            assert result.unreadable[0].reason in ("truncated", "not-fits")
            words = result.unreadable[0].message
            assert str(length) in words or str(length - 5760) in words or length == 0
        asked = scanned(path, hdu=0)
        assert bool(asked.frames) == (length >= 2880 + IMAGE.nbytes), length


def patched(tmp_path, key, value):
    raw = bytearray(save(tmp_path / f"{key}{value}.fits").read_bytes())
    at = raw.find(f"{key:<8}=".encode())
    raw[at : at + 80] = f"{key:<8}= {value:>20}".ljust(80).encode()
    path = tmp_path / "patched.fits"
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BITPIX", "17"),
        ("BITPIX", "'x'"),
        ("NAXIS", "-1"),
        ("NAXIS", "1000"),
        ("NAXIS", "3"),
        ("NAXIS1", "-5"),
        ("NAXIS1", "T"),
        ("NAXIS1", "1.5"),
        ("BSCALE", "0"),
        ("BZERO", "'much'"),
        ("NAXIS1", "1e400"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(key, value, tmp_path):
    assert reason(patched(tmp_path, key, value)) == "damaged"


@pytest.mark.parametrize("value", [2000, 2**31, 2**62, 2**64, 10**30])
def test_sizes_beyond_the_file_are_found_before_anything_is_allocated(value, tmp_path):
    result = scanned(patched(tmp_path, "NAXIS1", str(value)))
    assert result.unreadable[0].reason == "truncated"
    assert str(2880 + value * 10 * 2) in result.unreadable[0].message


def test_missing_padding_and_bytes_after_the_end_are_fine(tmp_path):
    path = save(tmp_path / "x.fits")
    raw = path.read_bytes()
    path.write_bytes(raw[: 2880 + IMAGE.nbytes])
    assert scanned(path).frames
    path.write_bytes(raw + b"junk" * 999)
    assert scanned(path).frames


def test_an_endless_header_is_refused_with_bounded_memory(tmp_path):
    path = tmp_path / "x.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(80) + b" " * 40_000_000)
    assert reason(path) == "damaged"


def test_bad_cards_do_not_cost_the_frame(tmp_path):
    raw = bytearray(save(tmp_path / "x.fits").read_bytes())
    at = raw.find(b"END".ljust(80))
    cards = [b"OBJECT  = 'caf\xe9\0", b"EXPTIME = nan", b"FILTER  = 'open", b"END"]
    raw[at : at + 80 * len(cards)] = b"".join(card.ljust(80) for card in cards)
    path = tmp_path / "y.fits"
    path.write_bytes(raw)
    frame = scanned(path).frames[0]
    assert len(frame.problems) == 4
    np.testing.assert_array_equal(read_pixels(frame.source, (0, 10), (0, 12))[0], IMAGE)
    header = fits.Header.fromstring(frame.cards)
    fits.PrimaryHDU(IMAGE, header).writeto(tmp_path / "z.fits", output_verify="exception")


def test_fingerprints_are_of_content(tmp_path):
    one = save(tmp_path / "1.fits", fits.PrimaryHDU(np.zeros((100, 100), "i2")))
    other = save(tmp_path / "2.fits", fits.PrimaryHDU(np.ones((100, 100), "i2")))
    (tmp_path / "3.fits").write_bytes(one.read_bytes())
    first, second, third = scanned([one, other, tmp_path / "3.fits"]).frames
    assert first.fingerprint == third.fingerprint != second.fingerprint


def test_the_input_tree_is_never_written(tmp_path):
    save(tmp_path / "x.fits")
    before = {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]}
    frame = scan(tmp_path).frames[0]
    read_pixels(frame.source, (0, 10), (0, 12))
    assert {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]} == before


def test_every_real_file_is_read_as_astropy_reads_it_or_refused_with_words(realdata):
    result = scanned(realdata("header_zoo"))
    assert len(result.frames) + len(result.unreadable) == 19
    for fault in result.unreadable:
        assert "obs_lsst" in fault.path
        assert fault.reason == "several-detectors"
        assert "SEGMENT10" in fault.message
    for frame in result.frames:
        check_pixels(frame)


@pytest.mark.parametrize("hdu", ["Segment10", 16])
def test_amplifiers_of_real_mosaics_are_read_one_by_one(realdata, hdu):
    result = scanned(realdata("header_zoo") / "obs_lsst", hdu=hdu)
    assert len(result.frames) == 3
    assert sorted(f.source.compression for f in result.frames) == ["", "", "RICE_1"]
    for frame in result.frames:
        assert frame.source.wrapper == "gzip"
        assert "EXPTIME" in frame.header  # of the primary HDU
        check_pixels(frame)


def check_pixels(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(frame.source.path) as hdus:
            reference = hdus[frame.source.hdu].data
    rows, columns = frame.source.shape
    values, _ = read_pixels(frame.source, (0, rows), (0, columns))
    assert values.dtype == reference.dtype.newbyteorder("=")
    np.testing.assert_array_equal(values, reference)
    band, _ = read_pixels(frame.source, (3, 9), (2, 11))
    np.testing.assert_array_equal(band, reference[3:9, 2:11])

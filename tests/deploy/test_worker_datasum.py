"""Workers hold frames against their DATASUM: the process that leads them reads no pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits
from processes import running, scheduler, worker_command

import daskcal
from daskcal.fits import datasum

pytest.importorskip("distributed")


def test_workers_check_and_the_damaged_frame_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("this process reads the data")

    monkeypatch.setattr(datasum, "fill", refuse)
    night = daskcal.simulate_night(tmp_path / "night", size=(64, 80))
    biases = []
    for path in sorted(Path(night.folder).rglob("*.fits")):
        with fits.open(path) as hdus:
            copy = [hdu.copy() for hdu in hdus]
            if hdus[0].header.get("IMAGETYP", "").lower() in ("bias", "zero"):
                biases.append(path)
        if path not in biases:
            path.unlink()
            continue
        fits.HDUList(copy).writeto(path, overwrite=True, checksum=True)
    whole = bytearray(biases[1].read_bytes())
    whole[-5000] ^= 4
    biases[1].write_bytes(whole)
    with (
        scheduler() as (address, _),
        running(*worker_command(address)),
        daskcal.cluster(scheduler=address),
    ):
        ledger = daskcal.reduce_night(night.folder, tmp_path / "out", night.config)
    (lost,) = [frame for frame in ledger.frames if frame.status != "used"]
    assert Path(lost.path).name == biases[1].name
    assert "DATASUM" in lost.reason

"""The steps of calibration again, in plain float64 numpy, from what is to be right about them."""

from __future__ import annotations

import numpy as np

BAD, HOT, SATURATED, NO_DATA, LOW_FLAT = 1, 2, 4, 16, 64


class Pixels:
    """Frames as float64 arrays (frame, y, x), with every plane always there."""

    def __init__(self, image, mask=None):
        self.image = np.array(image, np.float64)
        self.variance = np.zeros(self.image.shape)
        self.shared = np.zeros(self.image.shape)
        self.mask = np.zeros(self.image.shape, int) if mask is None else np.array(mask, int)
        self.mask[~np.isfinite(self.image)] |= NO_DATA
        self.image[self.mask & NO_DATA != 0] = np.nan

    def each(self, values):
        return np.broadcast_to(np.asarray(values, float), len(self.image))[:, None, None]

    def saturate(self, level):
        self.mask[self.image >= self.each(level)] |= SATURATED

    def overscan(self, rows, columns, axis, statistic=np.median, clip=None):
        for frame, mask in zip(self.image, self.mask, strict=True):
            pixels = np.where(mask != 0, np.nan, frame)[rows, columns]
            lines = pixels if axis == "row" else pixels.T
            first = 0 if axis == "row" else columns.start or 0
            for i, line in enumerate(lines):
                good = line[np.isfinite(line)]
                if clip is not None and good.size:
                    middle = np.median(good)
                    sigma = max(1.482602218505602 * np.median(np.abs(good - middle)), 0.5)
                    good = good[np.abs(good - middle) <= clip * sigma]
                level = statistic(good) if good.size else np.nan
                where = np.s_[i] if axis == "row" else np.s_[:, first + i]
                frame[where] -= level
                if np.isnan(level):
                    mask[where] |= NO_DATA

    def trim(self, rows, columns):
        for name in ("image", "variance", "shared", "mask"):
            setattr(self, name, getattr(self, name)[:, rows, columns])

    def gain(self, gain):
        self.image *= self.each(gain)
        self.variance *= self.each(gain) ** 2
        self.shared *= self.each(gain) ** 2

    def noise(self, gain, rdnoise, quantum=0.0, overscan=0.0, bias=False, bias_level=0.0):
        """In adu (gain 1 for electron): photon noise of max(S, 0), read-out, quantisation."""
        signal = np.maximum(self.image - self.each(bias_level), 0) * np.where(self.each(bias), 0, 1)
        readout = self.each(rdnoise) ** 2 / self.each(gain) ** 2
        self.variance = signal / self.each(gain) + readout * (1 + overscan) + quantum**2 / 12

    def take_master(self, master, factor=1.0):
        self.image -= self.each(factor) * np.where(master.good(), master.image, np.nan)
        self.mask |= master.mask | np.where(master.good(), 0, NO_DATA)

    def flat(self, master, norm, min_value=0.0):
        f = master.image / norm
        low = ~(np.isfinite(f) & (f > 0) & (f >= min_value))
        f = np.where(low, np.nan, f)
        noise = (master.variance + master.shared) / norm**2
        self.shared = self.shared / f**2 + self.image**2 * noise / f**4
        self.variance /= f**2
        self.image /= f
        self.mask |= np.where(low, LOW_FLAT, 0) | master.mask


class MasterPixels:
    """A master as float64 arrays (y, x)."""

    def __init__(self, dataset):
        planes = {name: dataset[name].values for name in dataset.data_vars}
        self.image = np.asarray(planes["image"], np.float64)
        zero = np.zeros(self.image.shape)
        self.variance = np.asarray(planes.get("variance", zero), np.float64)
        self.shared = np.asarray(planes.get("variance_shared", zero), np.float64)
        self.mask = np.asarray(planes.get("mask", zero), int)

    def good(self):
        return np.isfinite(self.image)


def agree(frames, pixels, rtol=3e-6, planes=("image", "mask")):
    """`frames`, computed, are `pixels`, to the rounding of float32."""
    found = frames.compute()
    np.testing.assert_array_equal(found.mask.values if "mask" in found else 0, pixels.mask)
    np.testing.assert_allclose(found.image.values, pixels.image, rtol=rtol, atol=rtol * 1e3)
    for plane, expected in (("variance", pixels.variance), ("variance_shared", pixels.shared)):
        if plane in found:
            assert found[plane].dtype == found.image.dtype
            np.testing.assert_allclose(found[plane].values, expected, rtol=rtol, atol=rtol)
        else:
            assert plane not in planes

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Combine darks, one master for each exposure
#
# The third chapter of the CCD Data Reduction Guide, for its two cameras, simulated. The darks of
# the Large Format Camera keep their bias and are used as they are, so there is a master for each
# exposure. Those of the Aspen CG16M will be scaled: the bias has to leave them first.

# %%
import tempfile
import time
import warnings
from pathlib import Path

import ccdproc
import numpy as np
from astropy.nddata import CCDData
from astropy.stats import mad_std

import daskcal
from daskcal.plot import side_by_side

folder = Path(tempfile.mkdtemp())
lfc = daskcal.simulate_night(folder / "lfc", camera="lfc", size=(600, 800))
aspen = daskcal.simulate_night(folder / "aspen", camera="aspen-cg16m", size=(600, 800))

# %% [markdown]
# ## Example 1: the cryogenic camera
# The guide makes a set of the exposures, filters the files by each and names a file after it. Here
# it is xarray's `groupby`, and every dark is read once.

# %%
overscanned = {"overscan": "[:, 807:]", "trim": "[:, :800]"}
frames = daskcal.open_frames(lfc.folder, unit="adu")
calibrated = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **overscanned)
darks = {t: daskcal.combine(group).compute() for t, group in calibrated.groupby("exptime")}
print(", ".join(f"{exposure:g} s" for exposure in darks))

# %% [markdown]
# A master knows its exposure, so that `subtract_dark(frames, darks)` gives each frame the nearest
# one, and refuses those that are too far off: no dictionary, and no function to find it.

# %%
for exposure, dark in darks.items():
    print(f"{exposure:g} s: exptime {dark.attrs['exptime']:g}, {int(dark.n_used.max())} frames")
single = calibrated.query(frame="exptime == 300").isel(frame=0).image.values
pair = [(single, "one dark of 300 s"), (darks[300].image.values, "master")]
side_by_side(pair, folder / "lfc-dark.png", max_size=320)

# %% [markdown]
# ## Example 2: the thermo-electrically cooled camera
# The bias leaves the darks, in the same pass.

# %%
trimmed = {"trim": "[:, :800]"}
frames = daskcal.open_frames(aspen.folder, unit="adu")
bias = daskcal.combine(daskcal.calibrate(frames.query(frame="imagetyp == 'bias'"), **trimmed))
bias = bias.compute()
calibrated = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **trimmed, bias=bias)
dark = daskcal.combine(calibrated).compute()
rate = float(dark.image.mean()) / dark.attrs["exptime"]
print(f"{int(dark.n_used.max())} darks of {dark.attrs['exptime']:g} s: {rate:.4f} adu/s")
single = calibrated.isel(frame=0).image.values
pair = [(single, "one dark of 90 s, no bias"), (dark.image.values, "master")]
side_by_side(pair, folder / "aspen-dark.png", max_size=320)

# %% [markdown]
# ## The same by ccdproc
# As the guide does it. daskcal is told to clip once and without a floor, as ccdproc clips. It works
# in float32, which rounds; hot pixels have thousands of adu, so the difference is told as a share
# of a pixel's value (of 1000 adu at least, which is what raw pixels have).


# %%
def by_ccdproc(raw, overscan, bias):
    """The guide's loop over the darks of one exposure, and its combination."""
    done = []
    for path in raw:
        ccd = CCDData.read(path, unit="adu")
        if overscan:
            ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, 807:], median=True)
        ccd = ccdproc.trim_image(ccd[:, :800])
        done.append(ccd if bias is None else ccdproc.subtract_bias(ccd, bias))
    return ccdproc.combine(
        done, method="average", sigma_clip=True, sigma_clip_low_thresh=5, sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std, mem_limit=350e6,
    )  # fmt: skip


def by_daskcal(raw, steps):
    """The same in one pass."""
    frames = daskcal.open_frames(raw, unit="adu")
    return daskcal.combine(daskcal.calibrate(frames, **steps), maxiters=1, sigma_floor=0).compute()


for name, night, steps in (
    ("lfc", lfc, overscanned),
    ("aspen", aspen, {**trimmed, "bias": bias}),
):
    frames = daskcal.open_frames(night.folder, unit="adu").query(frame="imagetyp == 'dark'")
    theirs_bias = CCDData(bias.image.values, unit="adu") if "bias" in steps else None
    largest = seconds = seconds_ccdproc = 0.0
    for _, group in frames.groupby("exptime"):
        raw = list(group.path.values)
        start = time.perf_counter()
        ours = by_daskcal(raw, steps)
        between = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old keywords in headers
            theirs = by_ccdproc(raw, "overscan" in steps, theirs_bias)
        seconds_ccdproc += time.perf_counter() - between
        seconds += between - start
        apart = np.abs(ours.image.values - theirs.data) / np.maximum(np.abs(theirs.data), 1000)
        largest = max(largest, float(apart.max()))
    times = f"daskcal {seconds:.2f} s, ccdproc {seconds_ccdproc:.2f} s"
    print(f"{name}: differs by {largest:.1e} of a pixel's value at most; {times}")
    assert largest < 3e-7  # float32 rounds by 6e-8 each time that a value is stored

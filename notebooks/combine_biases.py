# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Combine bias images to make a master
#
# The second chapter of the CCD Data Reduction Guide, for its two cameras: the cryogenic Large
# Format Camera, whose overscan is of use, and the thermo-electrically cooled Aspen CG16M, whose
# overscan is cut off. Both are simulated, with known truth.

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
# Headers are read and pixels are not. What the guide collects in a folder of calibrated images is a
# selection here, and nothing is written on the way: overscan, trim, rejection and mean are one pass
# over the raw files, band by band.

# %%
overscanned = {"overscan": "[:, 807:]", "trim": "[:, :800]"}
frames = daskcal.open_frames(lfc.folder, unit="adu")
biases = frames.query(frame="imagetyp == 'bias'")
calibrated = daskcal.calibrate(biases, **overscanned)
bias = daskcal.combine(calibrated, low=5, high=5).compute()
daskcal.to_fits(bias, folder / "lfc-bias.fits")
rejected = float((bias.n_low + bias.n_high).mean()) / biases.sizes["frame"]
print(f"{biases.sizes['frame']} biases, {rejected:.2%} of their values rejected")

# %% [markdown]
# The noise falls as the root of their number, and what is left is the structure that the overscan
# does not take out. `variance` says how far the result can be trusted: few biases of integers often
# agree by chance, which is why daskcal clips at no less than half a step of the converter
# (`sigma_floor`).

# %%
single = calibrated.isel(frame=0).image.values
print(f"scatter of one bias {mad_std(single):.2f} adu, of the master {mad_std(bias.image):.2f} adu")
pair = [(single, "one bias"), (bias.image.values, "master")]
side_by_side(pair, folder / "lfc-bias.png", max_size=320)

# %% [markdown]
# ## Example 2: the thermo-electrically cooled camera
# The same call without an overscan.

# %%
frames = daskcal.open_frames(aspen.folder, unit="adu")
biases = frames.query(frame="imagetyp == 'bias'")
calibrated = daskcal.calibrate(biases, trim="[:, :800]")
bias = daskcal.combine(calibrated, low=5, high=5).compute()
daskcal.to_fits(bias, folder / "aspen-bias.fits")
single = calibrated.isel(frame=0).image.values
print(f"scatter of one bias {mad_std(single):.2f} adu, of the master {mad_std(bias.image):.2f} adu")
pair = [(single, "one bias"), (bias.image.values, "master")]
side_by_side(pair, folder / "aspen-bias.png", max_size=320)

# %% [markdown]
# ## The same by ccdproc
# As the guide does it, its misspelt keyword put right. daskcal is told to clip once and without a
# floor, as ccdproc clips.


# %%
def by_ccdproc(raw, overscan):
    """The guide's loop over the biases of a folder, and its combination."""
    done = []
    for path in raw:
        ccd = CCDData.read(path, unit="adu")
        if overscan:
            ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, 807:], median=True)
        done.append(ccdproc.trim_image(ccd[:, :800]))
    return ccdproc.combine(
        done, method="average", sigma_clip=True, sigma_clip_low_thresh=5, sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std, mem_limit=350e6,
    )  # fmt: skip


def by_daskcal(raw, steps):
    """The same in one pass."""
    frames = daskcal.open_frames(raw, unit="adu")
    return daskcal.combine(daskcal.calibrate(frames, **steps), maxiters=1, sigma_floor=0).compute()


for name, night, steps in (("lfc", lfc, overscanned), ("aspen", aspen, {"trim": "[:, :800]"})):
    frames = daskcal.open_frames(night.folder, unit="adu")
    raw = list(frames.query(frame="imagetyp == 'bias'").path.values)
    start = time.perf_counter()
    ours = by_daskcal(raw, steps)
    between = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old keywords in headers
        theirs = by_ccdproc(raw, "overscan" in steps)
    done = time.perf_counter()
    difference = float(np.abs(ours.image.values - theirs.data).max())
    times = f"daskcal {between - start:.2f} s, ccdproc {done - between:.2f} s"
    print(f"{name}: differs by {difference:.1e} adu at most, which is rounding; {times}")
    assert difference < 1e-3

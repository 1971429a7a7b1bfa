# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Reduce science images
#
# The sixth chapter of the CCD Data Reduction Guide, for its two cameras, simulated. Dictionaries of
# masters, the nearest dark and the flat of the filter are what `reduce_night` finds by itself; here
# it is done by hand first.

# %%
import tempfile
import time
import warnings
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
from astropy.nddata import CCDData

import daskcal
from daskcal.plot import side_by_side

folder = Path(tempfile.mkdtemp())
lfc = daskcal.simulate_night(folder / "lfc", camera="lfc", size=(600, 800), sky=900)
aspen = daskcal.simulate_night(folder / "aspen", camera="aspen-cg16m", size=(600, 800))

# %% [markdown]
# ## Example 1: overscan, trim, dark with its bias, flat
# The frames of a filter get its flat; all of them the darks, each the nearest. Where the flat has
# less than a tenth of its mean, the rows across the top that see no light, frames are masked.

# %%
detector = {"overscan": "[:, 807:]", "trim": "[:, :800]"}
frames = daskcal.open_frames(lfc.folder, unit="adu")
darks = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **detector)
darks = [daskcal.combine(group).compute() for _, group in darks.groupby("exptime")]
steps = {**detector, "dark": {"dark": darks, "tolerance": 1}}
flats = daskcal.calibrate(frames.query(frame="imagetyp == 'flat'"), **steps).groupby("filter")
flats = {str(band): daskcal.combine(group, scale="median").compute() for band, group in flats}
science = frames.query(frame="imagetyp == 'science'").groupby("filter")
reduced = [
    daskcal.calibrate(group, **steps, flat={"flat": flats[band], "min_value": 0.1})
    for band, group in science
]
for group in reduced:
    print(str(group["filter"].values[0]), [Path(path).name for path in group.path.values])

# %% [markdown]
# ## Example 2: trim, bias, dark, flat

# %%
detector = {"trim": "[:, :800]"}
frames = daskcal.open_frames(aspen.folder, unit="adu")
bias = daskcal.combine(daskcal.calibrate(frames.query(frame="imagetyp == 'bias'"), **detector))
steps = {**detector, "bias": bias.compute()}
dark = daskcal.combine(daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **steps))
dark = dark.compute()
flat = frames.query(frame="imagetyp == 'flat'")
flat = daskcal.calibrate(flat, **steps, dark={"dark": dark, "scale": True})
flat = daskcal.combine(flat, scale="median").compute()
steps_aspen = {**steps, "dark": dark, "flat": flat}
reduced_aspen = daskcal.calibrate(frames.query(frame="imagetyp == 'science'"), **steps_aspen)

# %% [markdown]
# ## Before and after

# %%
raw = daskcal.open_frames(reduced[0].path.values[:1], unit="adu").image[0].values
after = reduced[0].image[0].values
side_by_side([(raw, "raw"), (after, "reduced")], folder / "lfc-science.png", max_size=320)
raw = daskcal.open_frames(reduced_aspen.path.values[:1], unit="adu").image[0].values
after = reduced_aspen.image[0].values
side_by_side([(raw, "raw"), (after, "reduced")], folder / "aspen-science.png", max_size=320)

# %% [markdown]
# ## The same by ccdproc
# With the same masters, and the flat divided by the level that daskcal divides by: the mean of its
# good pixels, where ccdproc's takes in the rows that see no light. Those are masked by daskcal.


# %%
def as_ccd(master):
    """A master as ccdproc takes it."""
    header = {"exptime": master.attrs["exptime"]}
    return CCDData(master.image.values.astype(float), unit="adu", header=header)


def by_ccdproc(path, overscan, bias, darks, flat):
    """The guide's loop over science images."""
    ccd = CCDData.read(path, unit="adu")
    if overscan:
        ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, 807:], median=True)
    ccd = ccdproc.trim_image(ccd[:, :800])
    if bias is not None:
        ccd = ccdproc.subtract_bias(ccd, as_ccd(bias))
    nearest = min(darks, key=lambda dark: abs(dark.attrs["exptime"] - ccd.header["exptime"]))
    exposure = {"exposure_time": "exptime", "exposure_unit": u.s}
    ccd = ccdproc.subtract_dark(ccd, as_ccd(nearest), **exposure)
    return ccdproc.flat_correct(ccd, as_ccd(flat), norm_value=daskcal.flat_level(flat))


groups = [
    ("lfc", group, (True, None, darks, flats[group["filter"].values[0]])) for group in reduced
]
groups.append(("aspen", reduced_aspen, (False, steps["bias"], [dark], flat)))
for name, group, arguments in groups:
    start = time.perf_counter()
    done = group[["image", "mask"]].compute()
    between = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old keywords in headers, and rows without light
        theirs = np.array([by_ccdproc(path, *arguments).data for path in group.path.values])
    end = time.perf_counter()
    good = done.mask.values == 0
    scale = np.maximum(np.abs(theirs[good]), 1000)
    apart = float((np.abs(done.image.values[good] - theirs[good]) / scale).max())
    times = f"daskcal {between - start:.2f} s, ccdproc {end - between:.2f} s"
    print(f"{name}: differs by {apart:.1e} of a pixel's value at most; {times}")
    assert apart < 2e-6  # float32, and a division

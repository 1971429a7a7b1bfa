# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Combine flats, one master for each filter
#
# The fifth chapter of the CCD Data Reduction Guide, continued, for its two cameras, simulated: dome
# flats of the Large Format Camera, twilight flats of the Aspen CG16M, whose level falls.

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
# ## The flats, calibrated
# As in the notebook before this one; nothing is computed yet.

# %%
overscanned, trimmed = {"overscan": "[:, 807:]", "trim": "[:, :800]"}, {"trim": "[:, :800]"}
frames = daskcal.open_frames(lfc.folder, unit="adu")
darks = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **overscanned)
darks = [daskcal.combine(group) for _, group in darks.groupby("exptime")]
dark = {"dark": darks, "tolerance": 1}
flats = daskcal.calibrate(frames.query(frame="imagetyp == 'flat'"), **overscanned, dark=dark)

frames = daskcal.open_frames(aspen.folder, unit="adu")
bias = daskcal.combine(daskcal.calibrate(frames.query(frame="imagetyp == 'bias'"), **trimmed))
dark = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **trimmed, bias=bias)
dark = {"dark": daskcal.combine(dark), "scale": True}
flats_aspen = frames.query(frame="imagetyp == 'flat'")
flats_aspen = daskcal.calibrate(flats_aspen, **trimmed, bias=bias, dark=dark)

# %% [markdown]
# ## Their levels
# The dome's differ by filter, the twilight's fall from frame to frame. Combined as they are, the
# bright ones would count for more.

# %%
for name, some in (("lfc", flats), ("aspen", flats_aspen)):
    levels = np.median(some.image.values, axis=(1, 2))
    print(name, "medians:", " ".join(f"{level:.0f}" for level in levels), "adu")

# %% [markdown]
# ## One call for each filter
# `scale="median"` divides each flat by its median, before values are rejected. No function, no name
# of a file made of a filter. Of three values two are often close by chance, so that 5σ of their
# deviations rejects good ones too: take more flats, or a larger `low` and `high`.

# %%
masters = {
    (name, str(band)): daskcal.combine(group, scale="median").compute()
    for name, some in (("lfc", flats), ("aspen", flats_aspen))
    for band, group in some.groupby("filter")
}
for (name, band), master in masters.items():
    n = int(master.n_used.max())
    rejected = float((master.n_low + master.n_high).mean()) / n
    print(f"{name} {band}: {n} flats, {rejected:.1%} of their values rejected")
three = [(master.image.values, f"{name} {band}") for (name, band), master in masters.items()]
side_by_side(three, folder / "flats.png", max_size=240)

# %% [markdown]
# ## The same by ccdproc
# ccdproc rejects values before it scales them. Of the twilight's flats, whose levels differ, it so
# loses good values; given flats that are scaled already, it makes what daskcal makes, told to clip
# once and without a floor, as ccdproc clips.


# %%
def by_ccdproc(images, **options):
    """The guide's combination."""
    ccds = [CCDData(image, unit="adu") for image in images]
    return ccdproc.combine(
        ccds, method="average", sigma_clip=True, sigma_clip_low_thresh=5, sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std, mem_limit=350e6, **options,
    )  # fmt: skip


def inv_median(image):
    """What scales an image to a median of 1."""
    return 1 / np.median(image)


for name, some in (("lfc", flats), ("aspen", flats_aspen)):
    for band, group in some.groupby("filter"):
        images = group.image.values.astype(float)
        start = time.perf_counter()
        ours = daskcal.combine(group, scale="median", maxiters=1, sigma_floor=0).compute()
        between = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            as_the_guide = by_ccdproc(images, scale=inv_median)
            done = time.perf_counter()
            scaled = by_ccdproc([image * inv_median(image) for image in images])
        flat = ours.image.values
        other = float((np.abs(as_the_guide.data - flat) > 1e-4).mean())
        alike = float((np.abs(scaled.data - flat) < 1e-6).mean())
        print(f"{name} {band}: ccdproc as the guide has it differs in {other:.2%} of the pixels;")
        print(f"  of scaled flats it is the same in {alike:.3%};")
        print(f"  daskcal, calibration included, {between - start:.2f} s, ccdproc, of calibrated")
        print(f"  images in memory, {done - between:.2f} s")
        assert alike > 0.999  # float32 decides otherwise where a value lies on the bound

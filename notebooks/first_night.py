# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first night, step by step
#
# A night of the Large Format Camera is simulated, with known truth. Its masters and science frames
# are then made twice: by hand, as lazy xarray Datasets, and by one call that does the whole night.

# %%
import tempfile
from pathlib import Path

import numpy as np

import daskcal
from daskcal.plot import side_by_side

folder = Path(tempfile.mkdtemp())
night = daskcal.simulate_night(folder / "night", camera="lfc", size=(600, 800), sky=900)

# %% [markdown]
# ## Frames
# Headers are read and pixels are not. Selecting is xarray's own, and costs nothing. What this
# camera's headers leave out is said once.

# %%
camera = daskcal.Instrument(name="LFC, chip 0", unit="adu", gain=1.1, rdnoise=11)
frames = daskcal.open_frames(night.folder, instrument=camera)
for kind, group in frames.groupby("imagetyp"):
    print(kind, group.sizes["frame"], sorted(set(group["filter"].values)))
print(frames.image)

# %% [markdown]
# ## Masters by hand
# `calibrate` does the steps that are named, in the right order; image, noise and mask go together.
# This camera's darks keep their bias, and there is one for each exposure: they are not scaled.
# The overscan begins seven columns after the image. Nothing is computed yet.

# %%
detector = {"overscan": "[:, 807:]", "trim": "[:, :800]"}
darks = [
    daskcal.combine(daskcal.calibrate(group, **detector))
    for _, group in frames.query(frame="imagetyp == 'dark'").groupby("exptime")
]
dark = {"dark": darks, "tolerance": 1}  # s; each frame gets the one nearest in exposure
flats = frames.query(frame="imagetyp == 'flat' and filter == \"g'\"")
flat = daskcal.combine(daskcal.calibrate(flats, **detector, dark=dark), scale="median")

# %% [markdown]
# ## Science
# The same steps are functions of their own, and chain with `.pipe`.

# %%
science = (
    frames.query(frame="imagetyp == 'science' and filter == \"g'\"")
    .pipe(daskcal.subtract_overscan, "[:, 807:]")
    .pipe(daskcal.trim_image, "[:, :800]")
    .pipe(daskcal.create_variance)
    .pipe(daskcal.subtract_dark, **dark)
    .pipe(daskcal.flat_correct, flat, min_value=0.1)
)
reduced = science.isel(frame=0).compute()
print(reduced[["image", "variance", "mask"]])

# %% [markdown]
# ## The night in one call
# The same from a config, with products, a ledger and a report.

# %%
ledger = daskcal.reduce_night(night.folder, folder / "reduced", night.config)
print(ledger.counts())
product = daskcal.open_master(folder / "reduced" / "science" / "ccd.037.0.fits")
agree = np.isclose(product.image, reduced.image, rtol=1e-6, atol=1e-3, equal_nan=True)
print(f"{agree.mean():.4%} of the pixels are those made by hand")

# %% [markdown]
# ## Raw and reduced

# %%
raw = frames.query(frame="imagetyp == 'science'").isel(frame=0)
side_by_side(
    [(raw.image.values, "raw"), (product.image.values, "reduced")], folder / "raw-and-reduced.png"
)
print(folder / "raw-and-reduced.png")

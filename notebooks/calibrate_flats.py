# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Calibrate flats: darks as they are, and scaled
#
# The fifth chapter of the CCD Data Reduction Guide, for its two cameras, simulated. The Large
# Format Camera has darks of the exposures of its flats, bias included: one subtraction does both.
# The Aspen CG16M has darks of 90 s for flats of 1 s: the bias leaves first, and the dark is scaled.

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
lfc = daskcal.simulate_night(folder / "lfc", camera="lfc", size=(600, 800))
aspen = daskcal.simulate_night(folder / "aspen", camera="aspen-cg16m", size=(600, 800))

# %% [markdown]
# ## Example 1: darks are not scaled
# Each flat gets the dark of the nearest exposure; one that is more than `tolerance` seconds off
# would be refused, with the frame and the exposures named.

# %%
overscanned = {"overscan": "[:, 807:]", "trim": "[:, :800]"}
frames = daskcal.open_frames(lfc.folder, unit="adu")
darks = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **overscanned)
darks = [daskcal.combine(group).compute() for _, group in darks.groupby("exptime")]
flats = frames.query(frame="imagetyp == 'flat'")
print("exposures:", ", ".join(f"{t:g} s" for t in sorted(set(flats.exptime.values))))
calibrated = daskcal.calibrate(flats, **overscanned, dark={"dark": darks, "tolerance": 1})

try:
    daskcal.calibrate(flats, **overscanned, dark={"dark": darks[-1], "tolerance": 1})
except daskcal.CalibrationError as error:
    print(error)

# %%
pair = [(flats.image[0].values, "raw flat"), (calibrated.image[0].values, "calibrated")]
side_by_side(pair, folder / "lfc-flat.png", max_size=320)

# %% [markdown]
# ## Example 2: darks are scaled
# A dark that still holds its bias would be refused: scaling would scale the bias too. The guide's
# loop forgets to subtract it from the flats.

# %%
trimmed = {"trim": "[:, :800]"}
frames = daskcal.open_frames(aspen.folder, unit="adu")
bias = daskcal.combine(daskcal.calibrate(frames.query(frame="imagetyp == 'bias'"), **trimmed))
bias = bias.compute()
dark = daskcal.calibrate(frames.query(frame="imagetyp == 'dark'"), **trimmed, bias=bias)
dark = daskcal.combine(dark).compute()
flats_aspen = frames.query(frame="imagetyp == 'flat'")
steps = {**trimmed, "bias": bias, "dark": {"dark": dark, "scale": True}}
calibrated_aspen = daskcal.calibrate(flats_aspen, **steps)
try:
    daskcal.calibrate(flats_aspen, **trimmed, dark={"dark": dark, "scale": True})
except daskcal.CalibrationError as error:
    print(error)
pair = [(flats_aspen.image[0].values, "raw flat"), (calibrated_aspen.image[0].values, "calibrated")]
side_by_side(pair, folder / "aspen-flat.png", max_size=320)

# %% [markdown]
# ## The same by ccdproc
# One image after the other, with the same masters. daskcal works in float32; the difference is told
# as a share of a pixel's value (of 1000 adu at least, which is what raw pixels have).


# %%
def as_ccd(master):
    """A master as ccdproc takes it."""
    header = {"exptime": master.attrs["exptime"]}
    return CCDData(master.image.values.astype(float), unit="adu", header=header)


def by_ccdproc(raw, overscan, bias, darks, scale):
    """The guide's loop over flats."""
    exposure = {"exposure_time": "exptime", "exposure_unit": u.s}
    done = []
    for path in raw:
        ccd = CCDData.read(path, unit="adu")
        if overscan:
            ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, 807:], median=True)
        ccd = ccdproc.trim_image(ccd[:, :800])
        if bias is not None:
            ccd = ccdproc.subtract_bias(ccd, bias)
        nearest = min(darks, key=lambda dark: abs(dark.header["exptime"] - ccd.header["exptime"]))
        done.append(ccdproc.subtract_dark(ccd, nearest, **exposure, scale=scale))
    return done


for name, ours, arguments in (
    ("lfc", calibrated, (True, None, [as_ccd(one) for one in darks], False)),
    ("aspen", calibrated_aspen, (False, as_ccd(bias), [as_ccd(dark)], True)),
):
    start = time.perf_counter()
    pixels = ours.image.values
    between = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old keywords in headers
        theirs = np.array([ccd.data for ccd in by_ccdproc(ours.path.values, *arguments)])
    done = time.perf_counter()
    apart = float((np.abs(pixels - theirs) / np.maximum(np.abs(theirs), 1000)).max())
    times = f"daskcal {between - start:.2f} s, ccdproc {done - between:.2f} s"
    print(f"{name}: differs by {apart:.1e} of a pixel's value at most; {times}")
    assert apart < 5e-7  # float32 rounds by 6e-8 each time that a value is stored

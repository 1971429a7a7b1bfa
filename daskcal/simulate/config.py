"""The config that a simulated night is reduced with: the shipped camera's, at its size."""

from __future__ import annotations

from daskcal.simulate.cameras import Camera, Geometry

_HEAD = """\
# Config of a night made by `daskcal simulate`, camera {name}, {ny} x {nx} pixels kept.
"""

_GENERIC = """\
# The headers say everything (BIASSEC, TRIMSEC, GAIN, RDNOISE, SATURATE): nothing need be set.
"""

_MOSAIC = """\
# The headers say where each amplifier's pixels and overscan lie, and its gain and read noise.
[output]
gain_correct = true           # electron: amplifiers join without a step
"""

_SHIPPED = """\
extends = "{name}"

[instrument]
gain = {gain}                 # electron/adu
rdnoise = {rdnoise}           # electron
saturation = 65535            # adu

[trim]
section = "[:, :{nx}]"
"""

_OVERSCAN = """
[overscan]
section = "[:, {overscan}:]"
"""


def config_text(camera: Camera, geometry: Geometry, gain: float, rdnoise: float) -> str:
    """TOML text for ``reduce --config``; sections are Python's (rows first, 0-based)."""
    text = _HEAD
    if camera.name == "generic":
        text += _GENERIC
    elif camera.chips:
        return text.format(name=camera.name, ny=geometry.ny, nx=geometry.nx) + _mosaic(camera)
    else:
        text += _SHIPPED + (_OVERSCAN if geometry.overscan else "")
    return text.format(
        name=camera.name,
        ny=geometry.ny,
        nx=geometry.nx,
        gain=gain,
        rdnoise=rdnoise,
        overscan=geometry.overscan_columns.start,
    )


def _mosaic(camera: Camera) -> str:
    """What no header says of the amplifiers: how they bend, and leak into each other."""
    text = _MOSAIC
    for chip in camera.chips:
        rows = ", ".join(f"[{', '.join(f'{part:.6g}' for part in row)}]" for row in chip.crosstalk)
        text += f"\n[detectors.{chip.name}]\ncrosstalk.matrix = [{rows}]\n"
        for i, amplifier in enumerate(chip.amplifiers, 1):
            key = f"linearity.amplifier_coefficients.amp{i}"
            text += f"{key} = [{amplifier.bend:.6g}]   # 1/adu\n"
    return text

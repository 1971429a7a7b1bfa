"""Simulated nights: raw frames with known truth, made without any of the code that reduces them."""

from daskcal.simulate.cameras import CAMERAS, Camera, Geometry
from daskcal.simulate.faults import FAULTS
from daskcal.simulate.night import SimulatedNight, simulate_night
from daskcal.simulate.truth import TrueFrame, Truth, load_truth

__all__ = [
    "CAMERAS",
    "FAULTS",
    "Camera",
    "Geometry",
    "SimulatedNight",
    "TrueFrame",
    "Truth",
    "load_truth",
    "simulate_night",
]

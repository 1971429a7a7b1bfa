"""The peers: how each is called, one module each, and whether it is installed."""

from __future__ import annotations

import importlib.util
import shutil

_PIP = "pip install -r benchmarks/requirements.txt"
_APT = "apt-get install siril gnuastro"
_MODULES = {"ccdproc": "ccdproc", "astropop": "astropop", "bottleneck": "bottleneck"}
_PROGRAMS = {"siril": "siril-cli", "gnuastro": "astarithmetic"}


def missing(peer: str) -> str:
    """Why a peer cannot run, with what installs it; empty where it can."""
    for one in filter(None, peer.split("+")):
        if one in _MODULES and importlib.util.find_spec(_MODULES[one]) is None:
            return f"{one} is not installed ({_PIP})"
        if one in _PROGRAMS and shutil.which(_PROGRAMS[one]) is None:
            return f"{_PROGRAMS[one]} is not installed ({_APT})"
    return ""

"""FITS files: scanning folders of them, and reading pixels."""

from daskcal.fits.assembled import AssembledImage, read_pixels
from daskcal.fits.frame import Frame, Unreadable, detectors
from daskcal.fits.header import card_comments
from daskcal.fits.keywords import DEFAULT_KEYWORDS, FrameValues, Keywords, normalise
from daskcal.fits.scan import Scan, is_product, scan
from daskcal.fits.source import ImageSource

__all__ = [
    "DEFAULT_KEYWORDS",
    "AssembledImage",
    "Frame",
    "FrameValues",
    "ImageSource",
    "Keywords",
    "Scan",
    "Unreadable",
    "card_comments",
    "detectors",
    "is_product",
    "normalise",
    "read_pixels",
    "scan",
]

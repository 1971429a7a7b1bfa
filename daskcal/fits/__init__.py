"""FITS files: scanning folders of them, and reading pixels."""

from daskcal.fits.assembled import AssembledImage, read_each, read_pixels
from daskcal.fits.frame import Frame, Unreadable, read_detectors
from daskcal.fits.header import CardComments
from daskcal.fits.keywords import DEFAULT_KEYWORDS, FrameValues, Keywords, normalise
from daskcal.fits.scan import Scan, is_combined, is_product, scan
from daskcal.fits.source import ImageSource

__all__ = [
    "DEFAULT_KEYWORDS",
    "AssembledImage",
    "CardComments",
    "Frame",
    "FrameValues",
    "ImageSource",
    "Keywords",
    "Scan",
    "Unreadable",
    "is_combined",
    "is_product",
    "normalise",
    "read_detectors",
    "read_each",
    "read_pixels",
    "scan",
]

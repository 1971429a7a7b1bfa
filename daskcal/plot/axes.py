"""Images on matplotlib's Axes: drawn small, from lazy pixels, with row 0 at the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, choose
from daskcal.plot.lazily import one_frame, small
from daskcal.plot.png import STRETCHES, UNDEFINED_COLOUR, grey_limits
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = xr.Dataset | xr.DataArray | np.ndarray

_PLANES = {  # of a master, with what each is called
    "image": "value",
    "n_used": "values used",
    "sigma": "standard deviation",
    "n_low": "rejected below",
    "n_high": "rejected above",
}


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own size in inches, known to pyplot, which shows it in a notebook.

    Raises
    ------
    ArgumentError
        matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ArgumentError(
            "this picture needs matplotlib, which is not installed: pip install 'daskcal[plot]'"
        ) from error
    return plt.figure(figsize=(width, height), layout="constrained")


@strict_keywords
def image(
    data: Picture,
    *,
    plane: str = "image",
    stretch: str = "linear",
    percent: float = 99.0,
    max_size: int = 1000,
    title: str = "",
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw one image: masked pixels in blue, row 0 at the bottom, axes in detector pixels.

    Parameters
    ----------
    data : Dataset, DataArray or array (y, x)
        A frame, a master, or pixels. Lazy pixels are computed block by block, and averaged down:
        a frame of 10,000 × 10,000 pixels takes about a second and little memory.
    plane : str
        The variable of a Dataset to draw.
    stretch : {"linear", "asinh"}
    percent : float
        Share of the picture, in the middle of its distribution, between black and white.
    max_size : int
        Pixels along the longest side of what is drawn. Of larger images, blocks are averaged; of
        blocks taller than eight rows, the eight in the middle.
    title : str
    colorbar : bool
        Whether to draw one, with the unit.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Raises
    ------
    ArgumentError
        It is not one image, or an option cannot be used; or matplotlib is missing.

    Examples
    --------
    >>> plot.image(frames.isel(frame=0), stretch="asinh")  # doctest: +SKIP
    """
    choose("stretch", stretch, STRETCHES)
    if not 0 < percent <= 100:
        raise ArgumentError(f"percent={percent} is not above 0 and at most 100")
    if max_size < 1:
        raise ArgumentError(f"max_size={max_size} is not at least 1 pixel")
    found = one_frame(data, plane)
    plane = plane if plane in found else "image"
    return _drawn(found, plane, stretch, percent, max_size, title, colorbar, ax)


def _drawn(
    found: xr.Dataset, plane: str, stretch: str, percent: float, max_size: int, title: str,
    colorbar: bool, ax: Axes | None,
) -> Axes:  # fmt: skip
    if ax is None:
        rows, columns = found[plane].shape
        height = min(9.0, max(2.5, 5.5 * rows / columns + 0.6))
        ax = new_figure(6.6 if colorbar else 5.6, height).subplots()
    from matplotlib import colormaps

    values = small(found, plane, max_size)
    red, green, blue = (level / 255 for level in UNDEFINED_COLOUR)
    greys = colormaps["gray"].with_extremes(bad=(red, green, blue))
    shown = ax.imshow(
        np.ma.masked_invalid(values), cmap=greys, norm=_norm(values, stretch, percent),
        origin="lower", extent=_extent(found[plane]), interpolation="nearest",
    )  # fmt: skip
    ax.set(xlabel="x, pixels", ylabel="y, pixels", title=title)
    if colorbar:
        unit = str(found[plane].attrs.get("units", ""))
        beside = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
        ax.figure.colorbar(shown, cax=beside, label=unit)
    return ax


@strict_keywords
def pair(
    before: Picture,
    after: Picture,
    *,
    titles: tuple[str, str] = ("before", "after"),
    stretch: str = "linear",
    percent: float = 99.0,
    max_size: int = 700,
) -> tuple[Axes, Axes]:
    """Draw two images side by side, each with its own stretch.

    Parameters
    ----------
    before, after : Dataset, DataArray or array (y, x)
    titles : (str, str)
    stretch, percent, max_size
        As for `image`.

    Examples
    --------
    >>> plot.pair(raw.isel(frame=0), reduced.isel(frame=0))  # doctest: +SKIP
    """
    left, right = new_figure(12, 5).subplots(1, 2)
    for ax, data, title in ((left, before, titles[0]), (right, after, titles[1])):
        image(data, stretch=stretch, percent=percent, max_size=max_size, title=title, ax=ax)
    return left, right


@strict_keywords
def master_planes(master: xr.Dataset, *, max_size: int = 500) -> list[Axes]:
    """Draw a master: its values, how many frames each pixel is made of, and its noise.

    Parameters
    ----------
    master : Dataset (y, x)
        As `daskcal.combine` and `daskcal.open_master` give it.
    max_size : int
        As for `image`.

    Returns
    -------
    list of Axes
        Of the planes that the master has: image, ``n_used``, σ, ``n_low``, ``n_high``.

    Examples
    --------
    >>> plot.master_planes(daskcal.open_master("masters/flat_g.fits"))  # doctest: +SKIP
    """
    one_frame(master)
    planes: dict[str, Any] = {name: master[name] for name in _PLANES if name in master}
    if "variance" in master:
        planes["sigma"] = (master["variance"] ** 0.5).assign_attrs(master["image"].attrs)
    names = [name for name in _PLANES if name in planes]
    axes = np.atleast_1d(new_figure(5.4 * len(names), 4.6).subplots(1, len(names)))
    beside = {"mask": master["mask"]} if "mask" in master else {}
    for ax, name in zip(axes, names, strict=True):
        found = xr.Dataset(
            {"image": planes[name], **(beside if name in ("image", "sigma") else {})}
        )
        # of counts, the few that differ are what is looked for
        percent = 100.0 if name.startswith("n_") else 99.0
        image(found, title=_PLANES[name], percent=percent, max_size=max_size, ax=ax)
    return list(axes)


def _norm(values: np.ndarray, stretch: str, percent: float) -> Any:
    """From value to grey."""
    from astropy.visualization import AsinhStretch, ImageNormalize, LinearStretch

    good = values[np.isfinite(values)]
    low, high = grey_limits(good, percent) if good.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    curve = AsinhStretch(0.1) if stretch == "asinh" else LinearStretch()
    return ImageNormalize(vmin=low, vmax=high, stretch=curve, clip=False)


def _extent(plane: xr.DataArray) -> tuple[float, float, float, float]:
    """Edges of the image in detector pixels; of the array where it has no coordinates."""
    edges: list[float] = []
    for dim in ("x", "y"):
        first = float(plane[dim].values[0]) if dim in plane.coords else 0.0
        edges += [first - 0.5, first - 0.5 + plane.sizes[dim]]
    return edges[0], edges[1], edges[2], edges[3]

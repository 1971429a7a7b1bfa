"""Images on matplotlib's Axes: drawn small, from lazy pixels, with row 0 at the bottom."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError
from daskcal.frames.masks import FLAGS
from daskcal.plot.lazily import block_of, small, small_bits
from daskcal.plot.source import one_image
from daskcal.plot.stretch import UNDEFINED_COLOUR, check_stretch, curve, grey_limits
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from daskcal.plot.source import Picture

_PLANES = {  # of a master, with what each is called
    "image": "value",
    "n_used": "values used",
    "sigma": "standard deviation",
    "n_low": "rejected below",
    "n_high": "rejected above",
}
_COUNTS = ("n_used", "n_low", "n_high", "unstable")
_REASONS = {  # colours of what a mask says, in the order in which one hides another
    "no_data": "#4a6a8e",
    "bad": "#d62728",
    "saturated": "#ffbf00",
    "nonlinear": "#ff7f0e",
    "hot": "#e377c2",
    "cosmic_ray": "#2ca02c",
    "low_flat": "#9467bd",
    "clipped": "#17becf",
}
_SEEN = 400  # pixels across of a mask's picture: a single bad pixel is one of them
_LETTERS = 130  # of a title, an inch, over the size of its letters
_WIDE = 0.35  # rows over columns; below it, images stand above each other


def new_figure(width: float, height: float, layout: str = "constrained") -> Figure:
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
    return plt.figure(figsize=(width, height), layout=layout)


@strict_keywords
def show(
    data: Picture,
    *,
    plane: str = "image",
    hdu: int | str | None = None,
    stretch: str = "linear",
    percent: float = 99.0,
    max_size: int = 1000,
    title: str | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw one image: masked pixels in blue, row 0 at the bottom, axes in detector pixels.

    Parameters
    ----------
    data : Dataset, DataArray, CCDData, array (y, x) or path of a FITS file
        A frame, a master, or pixels. Lazy pixels are computed block by block, each once, and
        averaged down: a frame of 10,000 × 10,000 pixels takes about a second and little memory.
    plane : str
        The variable of a Dataset to draw, such as ``variance`` or ``n_used``; ``mask`` has a colour
        for each reason.
    hdu : int or str, optional
        Of a file: another HDU than the first image, by number or EXTNAME.
    stretch : {"linear", "sqrt", "asinh", "log"}
        astropy's, from value to grey: asinh and log show faint parts beside bright ones.
    percent : float
        Share of the picture, in the middle of its distribution, between black and white; what lies
        far outside that distribution (a bad row, bright stars) is left out of it.
    max_size : int
        Pixels along the longest side of what is drawn; larger images are averaged down in square
        blocks. A block is blue where it has no good pixel.
    title : str, optional
        The name of the file by default, where it is known.
    colorbar : bool
        Whether to draw one, with the unit.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ArgumentError
        It is not one image, or an option cannot be used; or matplotlib is missing.
    FrameError
        A file that is missing, damaged, or has no such image.

    Examples
    --------
    >>> ax = plot.show(frames.isel(frame=0), stretch="asinh")
    """
    check_stretch(stretch, percent, max_size)
    found = one_image(data, plane, hdu)
    plane = plane if plane in found else "image"
    ax = ax or _axes([found[plane].shape], 6.6 if colorbar else 5.6)[0]
    if plane == "mask":
        bits = small_bits(found, block_of(found["mask"].shape, min(max_size, _SEEN)))
        _draw_mask(ax, found, bits)
    else:
        (values,) = small(found, [plane], block_of(found[plane].shape, max_size))
        _draw(ax, found, plane, values, stretch=stretch, percent=percent, colorbar=colorbar)
    _set_title(ax, _file_name(found) if title is None else title)
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
    """Draw two images side by side (wide ones above each other), each with its own stretch.

    Parameters
    ----------
    before, after
        As for `show`.
    titles : (str, str)
    stretch, percent, max_size
        As for `show`.

    Examples
    --------
    >>> left, right = plot.pair("raw/n0441.fits", "reduced/science/n0441.fits")
    """
    check_stretch(stretch, percent, max_size)
    both = [one_image(before), one_image(after)]
    left, right = _axes([each["image"].shape for each in both], 12)
    for ax, data, title in zip((left, right), both, titles, strict=True):
        show(data, stretch=stretch, percent=percent, max_size=max_size, title=title, ax=ax)
    return left, right


@strict_keywords
def mosaic(
    tree: xr.DataTree,
    *,
    stretch: str = "linear",
    percent: float = 99.0,
    max_size: int = 400,
) -> list[Axes]:
    """Draw one exposure of a mosaic: each detector under its name, with its own stretch.

    Parameters
    ----------
    tree : DataTree
        A node (y, x) for each detector, as ``daskcal.open_mosaic(paths).isel(frame=0)`` gives.
    stretch, percent, max_size
        As for `show`.

    Returns
    -------
    list of Axes
        In the order of the nodes.

    Examples
    --------
    >>> axes = plot.mosaic(daskcal.open_mosaic("mosaic").isel(frame=0))
    """
    check_stretch(stretch, percent, max_size)
    if not isinstance(tree, xr.DataTree) or not tree.children:
        raise ArgumentError("mosaic draws a DataTree with a node for each detector")
    found = {name: one_image(node.to_dataset()) for name, node in tree.children.items()}
    alike = len({_extent(each["image"]) for each in found.values()}) == 1
    axes = _axes([each["image"].shape for each in found.values()], 12, shared=alike)
    for ax, (name, data) in zip(axes, found.items(), strict=True):
        show(data, stretch=stretch, percent=percent, max_size=max_size, title="", ax=ax)
        _set_title(ax, name, 9)
        if alike:
            ax.label_outer()
    return axes


@strict_keywords
def master_planes(master: Picture, *, max_size: int = 500) -> list[Axes]:
    """Draw a master: its values, how many frames each pixel is made of, and its noise.

    All planes come of one pass: a lazy master is combined once.

    Parameters
    ----------
    master : Dataset (y, x)
        As `daskcal.combine` and `daskcal.open_master` give it.
    max_size : int
        As for `show`.

    Returns
    -------
    list of Axes
        Of the planes that the master has: image, ``n_used``, σ, ``n_low``, ``n_high``.

    Examples
    --------
    >>> axes = plot.master_planes(daskcal.open_master("reduced/masters/flat_V.fits"))
    """
    found = one_image(master)
    if "variance" in found:
        found = found.assign(sigma=(found["variance"] ** 0.5).assign_attrs(found["image"].attrs))
    names = [name for name in _PLANES if name in found]
    axes = _axes([found[name].shape for name in names], 13, shared=True)
    pictures = small(found[[*names, *(["mask"] if "mask" in found else [])]], names,
                     block_of(found["image"].shape, max_size))  # fmt: skip
    for ax, name, values in zip(axes, names, pictures, strict=True):
        # of counts, the few that differ are what is looked for
        percent = 100.0 if name in _COUNTS else 99.0
        _draw(ax, found, name, values, stretch="linear", percent=percent, colorbar=True)
        ax.set_title(_PLANES[name])
        ax.label_outer()
    return axes


def _axes(shapes: Sequence[Sequence[int]], width: float, *, shared: bool = False) -> list[Axes]:
    """Axes on a new figure for images of these shapes: in rows of three or so."""
    count = len(shapes)
    ratio = max(rows / columns for rows, columns in shapes)
    across = 1 if ratio < _WIDE else min(count, 2 if count in (2, 4) else max(3, math.isqrt(count)))
    down = math.ceil(count / across)
    each = max(width, 9.0) if ratio < _WIDE else width / across
    height = min(9.0, max(1.2, 0.8 * each * ratio + 0.7))
    figure = new_figure(each * across, height * down, "compressed")  # images keep their shape
    grid = figure.subplots(down, across, squeeze=False, sharex=shared, sharey=shared)
    axes: list[Axes] = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    for above in axes[count - across : len(axes) - across] if shared else ():
        above.xaxis.set_tick_params(labelbottom=True)
    return axes[:count]


def _draw(
    ax: Axes, found: xr.Dataset, plane: str, values: np.ndarray, *, stretch: str, percent: float,
    colorbar: bool,
) -> None:  # fmt: skip
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    red, green, blue = (level / 255 for level in UNDEFINED_COLOUR)
    greys = colormaps["gray"].with_extremes(bad=(red, green, blue))
    # colours are what is made to fit the screen: thin masked columns keep theirs
    shown = ax.imshow(
        np.ma.masked_invalid(values), cmap=greys, norm=_norm(values, stretch, percent),
        origin="lower", extent=_extent(found[plane]), interpolation="antialiased",
        interpolation_stage="rgba",
    )  # fmt: skip
    ax.set(xlabel="x, pixels", ylabel="y, pixels")
    if colorbar:
        rows, columns = values.shape
        slim = min(25.0, max(6.0, 25 * rows / columns))
        bar = ax.figure.colorbar(shown, ax=ax, label=_unit(found, plane), pad=0.02, aspect=slim)
        if plane in _COUNTS:
            bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_mask(ax: Axes, found: xr.Dataset, bits: np.ndarray) -> None:
    """A colour for each reason, the shares of the picture that they have in the legend."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    colours = np.ones((*bits.shape, 3))
    patches = []
    for name, colour in reversed(_REASONS.items()):
        marked = bits & FLAGS[name] != 0
        if marked.any():
            colours[marked] = to_rgb(colour)
            patches.append(Patch(color=colour, label=name))
    ax.imshow(colours, origin="lower", extent=_extent(found["mask"]), interpolation="nearest")
    ax.set(xlabel="x, pixels", ylabel="y, pixels")
    if patches:
        ax.legend(handles=patches[::-1], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def _unit(found: xr.Dataset, plane: str) -> str:
    """For the colour bar."""
    if plane in _COUNTS:
        return "frames"
    unit = found[plane].attrs.get("units")
    if unit is None and plane.startswith("variance"):
        image = found["image"].attrs.get("units", "") if "image" in found else ""
        return f"{image}²" if image else ""
    return str(unit or "")


def _file_name(found: xr.Dataset) -> str:
    """The name of the file that an image is from; "" where that is not known."""
    path = found.coords["path"].item() if "path" in found.coords else found.attrs.get("file", "")
    return os.path.basename(str(path))


def short_name(name: str, letters: int) -> str:
    """A name without its middle where it is too long: its end tells frames apart."""
    if len(name) <= letters:
        return name
    end = letters // 2
    return f"{name[: letters - end - 1]}…{name[-end:]}"


def _set_title(ax: Axes, title: str, size: int = 12) -> None:
    """A title in as many lines as its length takes; a dollar sign in it is no formula."""
    width = ax.get_position().width * ax.figure.get_figure(root=True).get_figwidth()
    letters = max(16, int(_LETTERS / size * width))
    lines = [textwrap.fill(line, letters) for line in title.splitlines()]
    ax.set_title("\n".join(lines), parse_math=False, fontsize=size)


def _norm(values: np.ndarray, stretch: str, percent: float) -> Any:
    """From value to grey."""
    from astropy.visualization import ImageNormalize

    good = values[np.isfinite(values)]
    low, high = grey_limits(good, percent) if good.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return ImageNormalize(vmin=low, vmax=high, stretch=curve(stretch), clip=False)


def _extent(plane: xr.DataArray) -> tuple[float, float, float, float]:
    """Edges of the image in detector pixels; of the array where it has no coordinates."""
    edges: list[float] = []
    for dim in ("x", "y"):
        first = float(plane[dim].values[0]) if dim in plane.coords else 0.0
        edges += [first - 0.5, first - 0.5 + plane.sizes[dim]]
    return edges[0], edges[1], edges[2], edges[3]

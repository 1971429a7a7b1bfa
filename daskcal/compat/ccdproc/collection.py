"""ccdproc's `ImageFileCollection`: a folder's headers as a table, and its files by keyword."""

from __future__ import annotations

import fnmatch
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import fits_ccddata_reader
from astropy.table import MaskedColumn, Table
from astropy.utils.exceptions import AstropyUserWarning

from daskcal.compat.ccdproc.headers import read_headers
from daskcal.errors import ArgumentError, DaskcalWarning, OutputError
from daskcal.strict import strict_keywords

PACKED = ("", ".gz", ".bz2", ".z", ".zip", ".fz")
ENDINGS = tuple(kind + packed for kind in ("fit", "fits", "fts") for packed in PACKED)
Put = Callable[[Any, int, Any], None]


class ImageFileCollection:
    """The FITS files of a folder (not of those below it), and their headers.

    Parameters
    ----------
    location : path, optional
        The folder.
    keywords : "*" or list of str, optional
        Columns of `summary`; all keywords if not given.
    find_fits_by_reading : bool
        Know FITS files by their content, not by their names.
    filenames : str or list of str, optional
        These files, in `location` or anywhere.
    glob_include, glob_exclude : str, optional
        Patterns of names to take, and to leave.
    ext : int or str
        The HDU of headers and data.

    Notes
    -----
    Unlike ccdproc: names end in ``.FIT`` as well as ``.fit``; headers are read once, until
    `refresh`; and a keyword that no file has, but that is nearly one that they have, is warned of
    (ccdproc finds no files, and is silent).

    Examples
    --------
    >>> night = ImageFileCollection("raw")
    >>> darks = night.files_filtered(imagetyp="dark", exptime=300, include_path=True)
    """

    @strict_keywords
    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        keywords: str | Sequence[str] | None = None,
        find_fits_by_reading: bool = False,
        filenames: str | Sequence[str] | None = None,
        glob_include: str | None = None,
        glob_exclude: str | None = None,
        ext: int | str = 0,
    ) -> None:
        self._location = "" if location is None else location
        self._by_content = find_fits_by_reading
        self._filenames = [filenames] if isinstance(filenames, str) else filenames
        self._include = None if glob_include is None else str(glob_include)
        self._exclude = None if glob_exclude is None else str(glob_exclude)
        self._ext = ext
        self._all_keywords = True
        self._summary: Table | None = None
        self._read()
        if not self._files:
            warnings.warn("no FITS files in the collection.", AstropyUserWarning, stacklevel=3)
        self.keywords = "*" if keywords is None else keywords

    def __repr__(self) -> str:
        said = {
            "location": self._location,
            "keywords": None if self._all_keywords else self.keywords[1:],
            "filenames": self._filenames,
            "glob_include": self._include,
            "glob_exclude": self._exclude,
            "ext": self._ext or None,
        }
        given = [f"{name}={value!r}" for name, value in said.items() if value is not None]
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def summary(self) -> Table | None:
        """A masked table: ``file``, and a column for each keyword; None without files."""
        return self._summary

    @property
    def location(self) -> str | os.PathLike[str]:
        """The folder."""
        return self._location

    @property
    def files(self) -> list[str]:
        """Names of all its files."""
        return self._files

    @property
    def glob_include(self) -> str | None:
        """The pattern of names to take."""
        return self._include

    @property
    def glob_exclude(self) -> str | None:
        """The pattern of names to leave."""
        return self._exclude

    @property
    def ext(self) -> int | str:
        """The HDU of headers and data."""
        return self._ext

    @property
    def keywords(self) -> list[str]:
        """The columns of `summary`; they can be set, and deleted."""
        return [] if self._summary is None else list(self._summary.keys())

    @keywords.setter
    def keywords(self, keywords: str | Iterable[str] | None) -> None:
        if keywords is None:
            self._summary = None
            return
        wanted = list(dict.fromkeys([keywords] if isinstance(keywords, str) else keywords))
        self._all_keywords = "*" in wanted
        self._summary = self._table(wanted)

    @keywords.deleter
    def keywords(self) -> None:
        self._summary = None

    def values(self, keyword: str, unique: bool = False) -> list[Any]:
        """The values of one column, all or each once."""
        if self._summary is None or keyword not in self.keywords:
            raise ArgumentError(f"keyword {keyword} is not in the current summary")
        values: list[Any] = self._summary[keyword].tolist()
        return list(set(values)) if unique else values

    def files_filtered(self, **kwd: Any) -> Any:
        """Names of the files whose keywords have these values.

        Parameters
        ----------
        include_path : bool
            Whether to give paths, as a list; else names, as an array.
        regex_match : bool
            Whether texts are regular expressions to search for.
        **kwd
            Keyword and value: texts in any case, numbers as they are, ``"*"`` for any value and
            None for none. Of a name that is no Python word: ``**{"date-obs": ...}``.

        Returns
        -------
        ndarray or list of str
        """
        if self._summary is None:
            return []
        include_path = kwd.pop("include_path", False)
        names = self._summary["file"].data.data[self._matching(**kwd)]
        if include_path:
            return [os.path.join(self._location, name) for name in names.tolist()]
        return names

    def filter(self, **kwd: Any) -> ImageFileCollection:
        """The files that `files_filtered` finds, as a collection of paths."""
        found = self.files_filtered(include_path=True, **kwd)
        return ImageFileCollection(filenames=found, keywords=self.keywords)

    def refresh(self) -> None:
        """Look at the folder and read the headers again."""
        keywords = ["*"] if self._all_keywords else self.keywords
        self._read()
        self._summary = self._table(keywords)

    def sort(self, keys: str | Sequence[str]) -> None:
        """Sort the files by one keyword or several."""
        if self._summary is not None:
            self._summary.sort(keys)
            self._files = self._summary["file"].tolist()

    def headers(self, do_not_scale_image_data: bool = True, **kwd: Any) -> Iterator[Any]:
        """The headers of files, one after the other; see `ccds` for the keywords."""
        return self._each(fits.getheader, _put_header, do_not_scale_image_data, **kwd)

    def hdus(self, do_not_scale_image_data: bool = False, **kwd: Any) -> Iterator[Any]:
        """The HDUs of files, one after the other; see `ccds` for the keywords."""

        def read(path: str, ext: int | str) -> Any:
            with fits.open(path, do_not_scale_image_data=do_not_scale_image_data) as hdus:
                return hdus[ext].copy()

        return self._each(read, _put_hdu, do_not_scale_image_data, **kwd)

    def data(self, do_not_scale_image_data: bool = False, **kwd: Any) -> Iterator[Any]:
        """The pixels of files, one after the other; see `ccds` for the keywords."""

        def read(path: str, ext: int | str) -> Any:
            return fits.getdata(path, ext, do_not_scale_image_data=do_not_scale_image_data)

        return self._each(read, _put_data, do_not_scale_image_data, **kwd)

    def ccds(self, ccd_kwargs: dict[str, Any] | None = None, **kwd: Any) -> Iterator[Any]:
        """Files as CCDData, one after the other.

        Parameters
        ----------
        ccd_kwargs : dict, optional
            Of `astropy.nddata.fits_ccddata_reader`: ``{"unit": "adu"}`` for files without BUNIT.
        return_fname : bool
            Whether to give pairs of an image and the name of its file.
        save_with_name, save_location : str
            Of the other generators: what is appended to the names, and the folder, of copies that
            are written with the changes of the loop.
        overwrite : bool
            Of the other generators: whether the files themselves are written.
        regex_match : bool
            As for `files_filtered`.
        **kwd
            As for `files_filtered`.
        """
        if kwd.get("overwrite") or kwd.get("clobber"):
            raise ArgumentError("ccds writes nothing; write the images in the loop")
        options = {"hdu": self._ext} | (ccd_kwargs or {})

        def read(path: str, ext: int | str) -> Any:
            return fits_ccddata_reader(path, **options)

        return self._each(read, None, True, **kwd)

    # --- the table --------------------------------------------------------------------------------

    def _read(self) -> None:
        """Find the files and read their headers."""
        names = list(self._filenames) if self._filenames else self._in_folder()
        self._files = [os.fspath(name) for name in names]
        paths = [os.path.join(self._location, name) for name in self._files]
        known = read_headers(paths, self._ext)
        self._rows = [
            (os.path.basename(path) if self._location else name, known[path])
            for name, path in zip(self._files, paths, strict=True)
            if path in known
        ]

    def _in_folder(self) -> list[str]:
        if self._location == "":
            return []
        names = sorted(os.listdir(self._location))
        if self._by_content:
            names = [name for name in names if self._is_fits(name)]
        else:
            names = [name for name in names if name.lower().endswith(ENDINGS)]
        if self._include is not None:
            names = fnmatch.filter(names, self._include)
        if self._exclude is not None:
            names = [name for name in names if not fnmatch.fnmatch(name, self._exclude)]
        return names

    def _is_fits(self, name: str) -> bool:
        path = os.path.join(self._location, name)
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(9) == b"SIMPLE  ="

    def _table(self, keywords: Sequence[str]) -> Table | None:
        if not self._rows:
            return None
        in_files = list(dict.fromkeys(key for _, header in self._rows for key in header))
        spelled = {key.lower(): key for key in keywords}
        names = [key for key in keywords if key not in ("*", "file")]
        if "*" in keywords:
            names = [spelled.get(key, key) for key in in_files]
            names += [key for key in keywords if key.lower() not in in_files]
            names = [key for key in names if key not in ("*", "file")]
        columns: list[Any] = [MaskedColumn([name for name, _ in self._rows], name="file")]
        columns += [self._column(name) for name in names]
        table = Table(columns, masked=True)
        table["file"].mask = False
        return table

    def _column(self, name: str) -> MaskedColumn:
        values = [header.get(name.lower()) for _, header in self._rows]
        missing = [value is None for value in values]
        if all(missing):
            return MaskedColumn(np.zeros(len(values)), name=name, mask=missing)
        if any(missing):  # as astropy's Table makes it of values and None
            return MaskedColumn(np.array(values, dtype=object), name=name, mask=missing)
        return MaskedColumn(values, name=name, mask=missing)

    # --- selection --------------------------------------------------------------------------------

    def _matching(self, regex_match: bool = False, **wanted: Any) -> np.ndarray:
        """Which rows of the summary have the wanted values."""
        assert self._summary is not None
        found = np.ones(len(self._summary), bool)
        for key, value in wanted.items():
            found &= self._has(self._known(key), value, regex_match)
        return found

    def _known(self, key: str) -> MaskedColumn:
        """A column of the summary, or one like it, in the order of its rows."""
        assert self._summary is not None
        if key in self._summary.colnames:
            return self._summary[key]
        headers = dict(self._rows)
        in_files = {name for header in headers.values() for name in header}
        if key.lower() not in in_files and (
            near := get_close_matches(key.lower(), in_files, 1, 0.8)
        ):
            warnings.warn(
                f"no file has the keyword {key!r}; did you mean {near[0]!r}?",
                DaskcalWarning,
                stacklevel=5,
            )
        column = self._column(key)
        at = {name: i for i, (name, _) in enumerate(self._rows)}
        return column[[at[name] for name in self._summary["file"].data.data.tolist()]]

    @staticmethod
    def _has(column: MaskedColumn, value: Any, regex_match: bool) -> np.ndarray:
        missing = np.ma.getmaskarray(column)
        if value is None:
            return missing
        if isinstance(value, str) and value == "*":
            return ~missing
        values = column.data.data.tolist()
        if isinstance(value, str):
            pattern = re.compile(value if regex_match else f"^{re.escape(value)}$", re.IGNORECASE)
            hits = [isinstance(one, str) and pattern.search(one) is not None for one in values]
        else:
            hits = [not isinstance(one, str) and bool(one == value) for one in values]
        return np.array(hits, bool) & ~missing

    def _each(
        self,
        read: Callable[[str, int | str], Any],
        put: Put | None,
        unscaled: bool,
        *,
        return_fname: bool = False,
        save_with_name: str = "",
        save_location: str = "",
        overwrite: bool = False,
        **wanted: Any,
    ) -> Iterator[Any]:
        if self._summary is None:
            return
        chosen = self._matching(**wanted) if wanted else ~np.ma.getmaskarray(self._summary["file"])
        for name in self._summary["file"].data.data[chosen].tolist():
            path = os.path.join(self._location, name)
            found = read(path, self._ext)
            yield (found, os.path.basename(path)) if return_fname else found
            target = _target(path, save_with_name, save_location)
            if put is not None and (target != path or overwrite):
                self._save(path, target, found, put, unscaled, overwrite)

    def _save(
        self,
        path: str,
        target: str,
        changed: Any,
        put: Put,
        unscaled: bool,
        overwrite: bool,
    ) -> None:
        with fits.open(path, do_not_scale_image_data=unscaled) as hdus:
            put(hdus, hdus.index_of(self._ext), changed)
            try:
                hdus.writeto(target, overwrite=overwrite)
            except OSError as error:
                raise OutputError(f"{target} cannot be written: {error}") from error


def _target(path: str, suffix: str, folder: str) -> str:
    stem, ending = os.path.splitext(os.path.basename(path))
    return os.path.join(folder or os.path.dirname(path), f"{stem}{suffix}{ending}")


def _put_header(hdus: Any, at: int, header: Any) -> None:
    hdus[at].header = header


def _put_data(hdus: Any, at: int, data: Any) -> None:
    hdus[at].data = data


def _put_hdu(hdus: Any, at: int, hdu: Any) -> None:
    hdus[at] = hdu

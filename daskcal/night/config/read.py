"""Reads and checks a night's configuration: TOML, on a shipped camera or alone."""

from __future__ import annotations

import tomllib
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from daskcal.errors import ArgumentError, ConfigError, nearest
from daskcal.frames.instrument import shipped_instruments
from daskcal.night.config.errors import explain
from daskcal.night.config.keys import ClassifyRule, NightConfig
from daskcal.night.config.signature import files_of_signature
from daskcal.night.config.table import parse_section
from daskcal.strict import strict_keywords

__all__ = [
    "ClassifyRule",
    "NightConfig",
    "camera_names",
    "load_camera",
    "load_config",
    "parse_section",
]


def camera_names() -> tuple[str, ...]:
    """Names of the shipped cameras, sorted."""
    return shipped_instruments()


def load_camera(name: str) -> NightConfig:
    """Configuration of a shipped camera.

    Raises
    ------
    ConfigError
        No camera of that name is shipped.
    """
    return _validate(_camera_values(name, "load_camera"), f"camera {name!r}")


@strict_keywords
def load_config(path: str | PathLike[str] | None = None) -> NightConfig:
    """Read and check a night's configuration.

    Parameters
    ----------
    path : path or None
        A TOML file, or the name of a shipped camera; None gives the defaults.

    Raises
    ------
    ConfigError
        A file that cannot be read, is not TOML, or has an unknown key or an unusable value; the
        message names the file, the key, what was found and what is allowed.
    ArgumentError
        No path.
    """
    if path is None:
        return NightConfig()
    if str(path) in camera_names() and not Path(path).exists():
        return load_camera(str(path))
    try:
        file = Path(path)
    except TypeError:
        raise ArgumentError(
            f"config should be a path, the name of a camera or a NightConfig, found "
            f"{type(path).__name__}; NightConfig.model_validate makes one of a dict"
        ) from None
    values = _parse(_read(file), str(file))
    base = values.get("extends", "")
    detectors = values.get("detectors")
    for one in (values, *(detectors.values() if isinstance(detectors, dict) else ())):
        if isinstance(one, dict):
            _resolve_mask(one, file)
            _resolve_signature(one, file)
    if isinstance(base, str) and base:
        values = _merge(_camera_values(base, f"{file}: extends"), values)
    return _validate(values, str(file))


def _camera_values(name: str, where: str) -> dict[str, Any]:
    if name not in camera_names():
        raise ConfigError(
            f"{where} = {name!r}: no such camera is shipped; {nearest(name, camera_names())}"
        )
    file = resources.files("daskcal").joinpath("instruments").joinpath(f"{name}.toml")
    return _parse(file.read_text(encoding="utf-8"), f"camera {name!r}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        cameras = ", ".join(camera_names())
        raise ConfigError(f"{file}: no such config file (shipped cameras: {cameras})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text, as TOML must be: {error}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None


def _validate(values: dict[str, Any], where: str) -> NightConfig:
    try:
        return NightConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, NightConfig, where)) from None


def _resolve_mask(values: dict[str, Any], file: Path) -> None:
    table = values.get("mask")
    if isinstance(table, dict) and "bad_pixels" in table:
        found = _found(table["bad_pixels"], "mask.bad_pixels", file)
        values["mask"] = {**table, "bad_pixels": found}


def _resolve_signature(values: dict[str, Any], file: Path) -> None:
    for table, key, dotted in files_of_signature(values):
        table[key] = _found(table[key], dotted, file)


def _found(given: Any, key: str, file: Path) -> Any:
    """A path that the config `file` gives, from its own folder on; what is no path as it is."""
    if not isinstance(given, str) or given == "none" or "://" in given:
        return given
    found = file.parent.resolve() / given
    if not found.is_file():
        raise ConfigError(f"{file}: {key} = {given!r}: there is no file {found}")
    return str(found)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged

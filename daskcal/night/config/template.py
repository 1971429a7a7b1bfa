"""A complete, commented config, written from the models so that it cannot drift from them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daskcal.night.config.errors import Unset, allowed
from daskcal.night.config.keys import NightConfig

_HEAD = """\
# A night's configuration for daskcal. Every key stands here with its default: keep what you change.
# `daskcal config --check FILE` checks a file; `daskcal config --list` names the shipped cameras.
"""


def template() -> str:
    """TOML text with every key of `NightConfig`: its meaning, what is allowed, and its default."""
    return _HEAD + "\n" + "\n".join(_lines(NightConfig(), ())) + "\n"


def _lines(table: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    fields = type(table).model_fields
    deep = [name for name in fields if _is_table(getattr(table, name), fields[name])]
    for name, field in fields.items():
        if name not in deep:
            yield from _key(name, field, getattr(table, name))
    for name in deep:
        yield from _table(name, fields[name], getattr(table, name), path)


def _is_table(value: Any, field: FieldInfo) -> bool:
    return isinstance(value, (BaseModel, dict)) or _listed(field) is not None


def _listed(field: FieldInfo) -> type[BaseModel] | None:
    """The table of which a field holds a list."""
    inside = (get_args(field.annotation) or (None,))[0]
    return inside if isinstance(inside, type) and issubclass(inside, BaseModel) else None


def _table(name: str, field: FieldInfo, value: Any, path: tuple[str, ...]) -> Iterator[str]:
    here = (*path, name)
    if isinstance(value, BaseModel):
        keys = list(_lines(value, here))
        if keys[0]:  # a table that holds only tables needs no line of its own
            about = field.description or type(value).__doc__ or ""
            yield from ("", *_comment(about), f"[{'.'.join(here)}]")
        yield from keys
    elif isinstance(value, dict):
        yield from ("", *_comment(field.description or ""), f"[{'.'.join(here)}]")
        yield from (f"# {example}" for example in field.examples or [])
    elif (listed := _listed(field)) is not None:
        yield from ("", *_comment(listed.__doc__ or ""), f"# [[{'.'.join(here)}]]")
        for key, rule in listed.model_fields.items():
            yield from _comment(f"{_sentence(rule)}", "#   ")
            example = rule.examples[0] if rule.examples else rule.default
            yield f"# {key} = {_toml(example, rule)}"


def _key(name: str, field: FieldInfo, value: Any) -> Iterator[str]:
    yield from _comment(_sentence(field))
    yield f"{name} = {_toml(value, field)}"


def _sentence(field: FieldInfo) -> str:
    return f"{field.description} ({allowed(field)})"


def _comment(text: str, start: str = "# ") -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 100, initial_indent=start, subsequent_indent=start)


def _toml(value: Any, field: FieldInfo) -> str:
    if value is None:
        return json.dumps(next(m.word for m in field.metadata if isinstance(m, Unset)))
    # JSON's texts, numbers, lists and booleans are TOML's
    return json.dumps(value, ensure_ascii=False)

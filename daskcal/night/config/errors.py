"""What is wrong with a config, in words: the key, what was found, what is allowed."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from daskcal.errors import nearest


@dataclass(frozen=True, slots=True)
class Unset:
    """The word that stands for None in TOML, which has no null."""

    word: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        word = self.word
        return core_schema.no_info_before_validator_function(
            lambda value: None if isinstance(value, str) and value == word else value,
            handler(source),
        )


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One line for each fault that pydantic found in a config of `model` read from `where`."""
    lines: dict[tuple[str, str], None] = {}
    for fault in error.errors(include_url=False):
        key, owner, field = _locate(model, fault["loc"])
        lines[key, _sentence(fault, owner, field)] = None
    return "\n".join(f"{where}: {key}{says}" for key, says in lines)


def _sentence(fault: Any, owner: type[BaseModel], field: FieldInfo | None) -> str:
    kind, found = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        return f": unknown key; {nearest(str(fault['loc'][-1]), owner.model_fields)}"
    if kind == "missing":
        return f": is missing; give {allowed(field) if field else 'it'}"
    if kind == "value_error":
        says = str(fault["ctx"]["error"])
        return f": {says}" if isinstance(found, (dict, BaseModel)) else f" = {_toml(found)}: {says}"
    expected = allowed(field) if field else fault["msg"]
    hint = ""
    words = _words(field) if field else []
    if isinstance(found, str) and words:
        hint = f"; {nearest(found, words)}"
        hint = hint if "did you mean" in hint else ""
    return f" = {_toml(found)}: expected {expected}{hint}"


def _locate(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[str, type[BaseModel], FieldInfo | None]:
    """Dotted key of a place, the table that owns it, and its field where the table has it."""
    owner, field, key = model, None, ""
    table: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        if table is None:
            # past the last field lies a dict's own key, or pydantic's name for a union's branch
            if field is not None and get_origin(field.annotation) is dict and part != "[key]":
                key += f".{part}"
            continue
        owner, field = table, table.model_fields.get(part)
        key += f".{part}" if key else part
        table = _table_of(field) if field else None
    return key or "the config", owner, field


def _table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a field holds, alone or in a list."""
    annotation: Any = field.annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def allowed(field: FieldInfo) -> str:
    """What may stand at a field, in words: ``a number > 0, or 'header'``."""
    parts = _parts(field.annotation, tuple(field.metadata))
    texts = list(dict.fromkeys(text for text in parts if text))
    return " or ".join(texts) if len(texts) < 3 else ", ".join(texts[:-1]) + " or " + texts[-1]


def _parts(annotation: Any, metadata: tuple[Any, ...]) -> list[str]:
    unset = [repr(m.word) for m in metadata if isinstance(m, Unset)]
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _parts(inner, tuple(more)) + unset
    if origin in (Union, types.UnionType):
        return [part for arm in get_args(annotation) for part in _parts(arm, ())] + unset
    if origin is Literal:
        return [_toml(word) for word in get_args(annotation)] + unset
    if origin is tuple:
        inside = " or ".join(_parts(get_args(annotation)[0], ()))
        return [f"a list of {inside}", *unset]
    if origin is dict:
        return _parts(get_args(annotation)[1], ())
    if annotation is bool:
        return ["true", "false", *unset]
    return [_plain(annotation, metadata), *unset]


def _plain(annotation: Any, metadata: tuple[Any, ...]) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a table"
    name = {float: "a number", int: "a whole number", str: "text"}
    text = name.get(annotation, "")
    limits = []
    for limit in metadata:
        for inner in getattr(limit, "metadata", [limit]):
            for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
                if isinstance(inner, kind):
                    limits.append(f" {sign} {getattr(inner, kind.__name__.lower())}")
    return text + " and".join(limits)


def _words(field: FieldInfo) -> list[str]:
    """The words among what a field allows."""
    parts = _parts(field.annotation, tuple(field.metadata))
    inside = [word for part in parts for word in part.removeprefix("a list of ").split(" or ")]
    return [word[1:-1] for word in inside if word.startswith("'")]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{...}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

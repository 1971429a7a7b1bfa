"""A contestant's own process: calls functions by name, times them, and answers in JSON lines."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serve requests from standard input until it ends; arguments are modules to hide."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    for hidden in sys.argv[1:]:
        sys.modules[hidden] = None  # type: ignore[assignment]
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=replies, flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """`seconds` that the call took and its `value`, or an `error`."""
    try:
        function = _resolve(request["call"])
        if request["only_import"]:
            return {"seconds": 0.0, "value": None}
        gc.collect()
        start = time.perf_counter()
        value = function(**request["arguments"])
        return {"seconds": time.perf_counter() - start, "value": value}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _resolve(call: str) -> Callable[..., Any]:
    module, _, name = call.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main()

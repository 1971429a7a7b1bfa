"""What docs/howto/deploy.md shows is so: its Dask configuration, its figures, its links."""

from __future__ import annotations

import re

import dask
import pytest
import yaml
from processes import REPOSITORY

pytest.importorskip("distributed")
PAGE = (REPOSITORY / "docs" / "howto" / "deploy.md").read_text(encoding="utf-8")


def leaves(node, path=()):
    """The keys of a configuration, each as a path."""
    if not isinstance(node, dict):
        return [".".join(path)]
    return [leaf for key, value in node.items() for leaf in leaves(value, (*path, key))]


def test_keys_of_its_configuration_are_dasks():
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.M | re.S)
    named = leaves(yaml.safe_load(text))
    missing = object()
    assert len(named) == 8
    assert not [key for key in named if dask.config.get(key, missing) is missing]


def test_what_it_prints_is_what_it_shows(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S)
    exec(compile(code, "deploy.md", "exec"), {})
    assert f"```\n{capsys.readouterr().out}```" in PAGE


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGE)
    assert len(links) == 5
    assert all((REPOSITORY / "docs" / "howto" / link).exists() for link in links)

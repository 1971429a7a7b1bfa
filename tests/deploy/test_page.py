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


def test_its_costs_are_those_of_the_benchmarks(monkeypatch):
    """``python -m benchmarks`` writes them, and so does ``benchmarks.costs.refresh()``."""
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.costs import BEGIN, END, block
    from benchmarks.tables import HERE, load

    shown = PAGE.partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == block(load(HERE / "results.json"))


def test_the_slowest_of_cores_network_and_client_decides(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.costs import Figures, cost, enough

    of = Figures(master=0.01, science={"all": 0.05, "image": 0.02}, product=0.1, tiny=0.01)
    one, many = cost(of, 1000, 1), cost(of, 1000, 100)
    assert one.core_hours == pytest.approx(5e5 * (0.9 * 0.05 + 0.1 * 0.01) / 3600)
    assert one.moved == pytest.approx(1000 + 4500)
    assert one.hours == one.cores == pytest.approx(one.core_hours / 4)
    assert many.hours == many.network == pytest.approx(5500 / 3600)
    assert enough(of, 1000, "all") == 2
    slow = Figures(of.master, of.science, product=1.0, tiny=0.01)
    assert cost(slow, 1000, 100).hours == pytest.approx(5e5 * 0.9 / 16.8 / 3600)


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGE)
    assert len(links) == 6
    assert all((REPOSITORY / "docs" / "howto" / link).exists() for link in links)

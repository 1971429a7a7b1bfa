"""The compose file fits its specification, and its commands reduce a night to the same bits."""

from __future__ import annotations

import pytest
import yaml
from by_commands import reduce_with
from processes import REPOSITORY
from small_night import bits

FOLDER = REPOSITORY / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]


def checked(text):
    """The services, if the file fits the specification."""
    spec = pytest.importorskip("compose_spec", reason="pip install 'daskcal[deploy]'")
    merged = yaml.safe_dump(yaml.safe_load(text))  # without << and anchors
    found = spec.PyCompose.from_yaml(merged)
    found.validate()
    return found


def test_it_fits_the_specification():
    checked(TEXT)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart:", "restrat:"),
        ("condition: service_healthy", "condition: healthy"),
        ("replicas: 2", "replicas: two"),
        ("- scratch:/scratch", "- scrtach:/scratch"),
    ],
)
def test_a_slip_is_found(right, wrong):
    assert right in TEXT
    with pytest.raises(ValueError, match=wrong.split()[-1].rstrip(":").split(":")[0]):
        checked(TEXT.replace(right, wrong))


def test_nothing_listens_beyond_this_machine():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_its_commands_reduce_a_night(night):
    folder, raw, config = night
    out = folder / "compose"
    reduce = [*SERVICES["reduce"]["entrypoint"], str(raw), "-o", str(out), "-c", str(config)]
    worker, scheduler = (SERVICES[name]["command"] for name in ("worker", "scheduler"))
    reduce_with(scheduler, worker, reduce, "tcp://scheduler:8786")
    assert bits(out) == bits(folder / "threads")

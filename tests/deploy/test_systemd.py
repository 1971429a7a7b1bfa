"""Systemd finds the units right, and what they start reduces a night to the same bits."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from by_commands import here, succeed
from processes import REPOSITORY
from small_night import bits

from daskcal.cli.status import SKIPPED, USAGE

FOLDER = REPOSITORY / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".service", ".timer"))
NIGHT, NIGHTLY = "daskcal-night@.service", "daskcal-nightly.service"
PROGRAM = "/opt/daskcal/bin/daskcal"


def service(name):
    """The settings of a unit's service."""
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    found.optionxform = str
    found.read(FOLDER / name)
    return found["Service"]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_it_right(name, right, tmp_path):
    """And a slip in it wrong."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    for unit in UNITS:
        text = (FOLDER / unit).read_text().replace(PROGRAM, "/bin/true")
        slip = text.replace("\nType=", "\nTyp=").replace("\nOnCalendar=", "\nOnCalender=")
        (tmp_path / unit).write_text(text if right else slip)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False
    )
    if right:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert re.search(r"Unknown key( name)? '(Typ|OnCalender)'", done.stderr)


def test_a_night_by_its_unit(night):
    folder, raw, config = night
    out = folder / "systemd"
    unit = service(NIGHT)
    names = {"${RAW}/%i": str(raw), "${REDUCED}/%i": str(out), "${WORKERS}": "1"}
    command = here(shlex.split(unit["ExecStart"]), names)
    assert not [word for word in command if "$" in word or "%" in word]
    succeed([*command, "-c", str(config)])
    assert bits(out) == bits(folder / "threads")


def test_variables_are_given():
    """Those of the command are there, each with a value."""
    text = (FOLDER / NIGHT).read_text()
    given = dict(
        pair.split("=", 1)
        for line in text.splitlines()
        if line.startswith("Environment=")
        for pair in shlex.split(line.removeprefix("Environment="))
    )
    assert {"RAW", "REDUCED", "WORKERS"} <= {*given}
    assert service(NIGHT)["ReadWritePaths"] == given["REDUCED"]
    assert f"RequiresMountsFor={given['RAW']} {given['REDUCED']}" in text


def test_statuses_are_those_of_daskcal():
    unit = service(NIGHT)
    assert (unit["SuccessExitStatus"], unit["RestartPreventExitStatus"]) == (
        str(SKIPPED),
        str(USAGE),
    )


def test_the_nightly_starts_last_nights_unit(tmp_path):
    """Its shell finds the night; systemctl is a stand-in that says how it was called."""
    (tmp_path / "systemctl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "systemctl").chmod(0o755)
    command = shlex.split(service(NIGHTLY)["ExecStart"].replace("%%", "%"))
    said = succeed(command, PATH=f"{tmp_path}:{os.environ['PATH']}")
    last = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y%m%d")
    assert said.split() == ["start", NIGHT.replace("@", f"@{last}")]

"""Workers that do not see the night, or may not read it, end the run at once, in one message."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from processes import running, scheduler, worker_command

import daskcal
from daskcal.errors import ClusterError

pytest.importorskip("distributed")


def elsewhere(folder):
    """What starts a program for which a folder is empty, as on a host that lacks a mount."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount of its own needs root and the program unshare (Debian: util-linux)")
    words = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount can be made here")
    return words


@pytest.mark.parametrize("hidden", ["raw", "out"])
def test_a_worker_that_does_not_see_it(night, tmp_path, hidden):
    _, raw, config = night
    out = tmp_path / "out"
    out.mkdir()
    folder, said = {
        "raw": (raw, rf"{raw}/\S+: there is no such file"),
        "out": (out, rf"{out} is not there, or is another folder"),
    }[hidden]
    with (
        scheduler() as (address, _),
        running(*elsewhere(folder), *worker_command(address)),
        daskcal.cluster(scheduler=address),
        pytest.raises(ClusterError, match=rf"the worker tcp://\S+ cannot work .*{said}"),
    ):
        daskcal.reduce_night(raw, out, config)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == []

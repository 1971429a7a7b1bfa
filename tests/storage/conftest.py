"""A real S3 server (Ceph's radosgw) for tests; they are skipped where it is not installed."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NEEDED = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
_REQUEST = re.compile(r'"([A-Z]+) /(\S+) HTTP/1\.1" (\d+) (\d+) ')
_BEGUN, _ENDED = "= starting new request ", " beast: 0x"
_MARKER = "marker-of-these-tests-"
_LATE = 60.0  # s
_numbers = itertools.count()


@dataclass(frozen=True)
class Request:
    """A line of the server's log."""

    method: str
    target: str
    status: int
    sent: int


@dataclass
class Server:
    """A running server, and its log since it was last looked at."""

    endpoint: str
    log: Path
    seen: int = field(default=0)

    def requests(self) -> list[Request]:
        """What was asked of it since this was last called.

        A request's line may come after its answer. That it was begun is in the log before, though:
        once the line of a request of our own is there, so are the beginnings of all before it, and
        the log is whole when each that was begun has ended.
        """
        marker = f"{_MARKER}{next(_numbers)}"
        with contextlib.suppress(urllib.error.HTTPError):  # nothing is there, which is an answer
            urllib.request.urlopen(f"{self.endpoint}/{marker}", timeout=_LATE).close()
        until = time.monotonic() + _LATE
        while not _is_whole(text := self._since(), marker):
            assert time.monotonic() < until, f"the log lacks requests after {_LATE:g} s: {self.log}"
            time.sleep(0.01)
        self.seen += len(text)
        return [
            Request(method, target, int(status), int(sent))
            for method, target, status, sent in _REQUEST.findall(text.decode())
            if not target.startswith(_MARKER)
        ]

    def _since(self) -> bytes:
        with self.log.open("rb") as file:
            file.seek(self.seen)
            text = file.read()
        return text[: text.rfind(b"\n") + 1]

    def gets(self) -> list[Request]:
        """Objects, or ranges of them, that it sent; not listings."""
        return [r for r in self.requests() if r.method == "GET" and "?" not in r.target]


def _is_whole(text: bytes, marker: str) -> bool:
    log = text.decode()
    return f"/{marker} " in log and log.count(_BEGUN) == log.count(_ENDED)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("s3fs", reason="s3fs is not installed (daskcal[s3])")
    lacking = [name for name in _NEEDED if shutil.which(name) is None]
    if lacking:
        pytest.skip(
            f"no S3 server here: {', '.join(lacking)} (apt install radosgw ceph-mon ceph-osd)"
        )
    folder = tmp_path_factory.mktemp("radosgw")
    monitor, port = _free_port(), _free_port()
    try:
        up = Path(__file__).with_name("radosgw_up.sh")
        done = subprocess.run(
            [up, folder, str(monitor), str(port)], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield Server(f"http://127.0.0.1:{port}", folder / "client.rgw.a.log")
    finally:
        for pid in folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def credentials(server: Server, user: str = "test") -> dict[str, str]:
    """The environment in which boto asks the server."""
    return {
        "AWS_ACCESS_KEY_ID": f"{user}key",
        "AWS_SECRET_ACCESS_KEY": f"{user}secret",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """The URL of a bucket of this test's own, and the file system that it is in."""
    import s3fs

    for key, value in credentials(server).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    store = s3fs.S3FileSystem()
    name = f"bucket-{next(_numbers)}"
    store.mkdir(name)
    server.requests()
    return f"s3://{name}", store

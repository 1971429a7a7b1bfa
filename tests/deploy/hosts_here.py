"""Several hosts on this machine: network namespaces on one bridge, each with its own address."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """A host: the name of its namespace, its address, and the bridge's end of its cable."""

    name: str
    address: str
    cable: str

    def command(self, words: list[str]) -> list[str]:
        """What runs a program on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    def cut_off(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.cable, "down")


@contextlib.contextmanager
def hosts(n: int) -> Iterator[list[Host]]:
    """Hosts that reach each other, and this process, over a bridge of their own."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip (Debian: iproute2)")
    own = os.getpid() % 100_000
    bridge, net = f"dkb{own}", f"10.213.{own % 254}"
    with contextlib.ExitStack() as stack:
        try:
            made = _build(stack, bridge, net, n)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        yield made


def _build(stack: contextlib.ExitStack, bridge: str, net: str, n: int) -> list[Host]:
    """The bridge and its hosts, which the stack removes."""
    _ip("link", "add", bridge, "type", "bridge")
    stack.callback(_ip, "link", "del", bridge)
    _ip("addr", "add", f"{net}.254/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    made = []
    for i in range(n):
        host = Host(f"{bridge}-{i}", f"{net}.{10 + i}", f"{bridge}-{i}")
        _ip("netns", "add", host.name)
        stack.callback(_ip, "netns", "del", host.name)
        end = ("type", "veth", "peer", "name", "eth0", "netns", host.name)
        _ip("link", "add", host.cable, *end)
        _ip("link", "set", host.cable, "master", bridge, "up")
        _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", host.name, "link", "set", "eth0", "up")
        made.append(host)
    return made


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

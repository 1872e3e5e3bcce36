"""Two hosts on one machine, for runs that torchrun starts on several."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nnodes", "2")


@contextmanager
def two_hosts() -> Iterator[list[tuple[str, ...]]]:
    """Make two network namespaces that a virtual cable joins; yields torchrun's command in each.

    Where the machine makes none (that takes root and iproute2), both hosts are loopback addresses.
    """
    names = [f"speechclip-{os.getpid()}-{rank}" for rank in (0, 1)]
    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            cable = ("eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0")
            ip("link", "add", *cable, "netns", names[1])
            for rank, name in enumerate(names):
                ip("-n", name, "address", "add", f"10.0.0.{rank + 1}/24", "dev", "eth0")
                for device in ("eth0", "lo"):
                    ip("-n", name, "link", "set", device, "up")
            enter = [("ip", "netns", "exec", n, "env", "GLOO_SOCKET_IFNAME=eth0") for n in names]
            meeting = ("--master-addr", "10.0.0.1", "--master-port", "29500")
        except (OSError, subprocess.CalledProcessError):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            enter = [("env", "GLOO_SOCKET_IFNAME=lo")] * 2
            meeting = ("--master-addr", "127.0.0.1", "--master-port", str(port))
        yield [
            (*prefix, *TORCHRUN, *meeting, "--nproc-per-node", "1", "--node-rank", str(rank))
            for rank, prefix in enumerate(enter)
        ]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)

"""Machines on this machine: each has its own network, processes, mounts, name and disk, and can die at once.

A host is a set of Linux namespaces whose init is sshd, with an address on a bridge; ``/tmp``, the home and ``/dev/shm``
are its own, the checkout is there to read, and :data:`SHARED` is a folder that all have, as from a file server. The
bridge is on a host of its own, the laptop: it has no sshd, and :meth:`Hosts.laptop` runs commands there. Nothing is
left in this machine's own namespaces, and all of it ends with this process, whatever ends that.

Needs root, iproute2, util-linux (unshare, nsenter, setpriv) and openssh.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

CHECKOUT = Path(__file__).parents[2]
SHARED = Path("/srv/shared")
HOME = Path("/srv/home")
NETWORK = "10.88.0"
KEY = HOME / ".ssh" / "cluster_key"
WAIT_S = 60
T = TypeVar("T")

_MOUNTS = """
set -e
keep() {{ mkdir -p /mnt/$2; mount --bind "$1" /mnt/$2; mount -o remount,bind,ro /mnt/$2; }}
mount -t tmpfs none /mnt
keep {checkout} checkout; keep {python} python
mount -t tmpfs none /srv; mkdir /srv/home /srv/shared
mount --bind {folder}/home /srv/home
mount --bind {shared} /srv/shared
for file in passwd hosts; do mount --bind {folder}/$file /etc/$file; done
mount -t tmpfs none /run; mkdir /run/sshd
mount -t tmpfs none /dev/shm
mount --bind {folder}/tmp /tmp
mkdir -p {checkout} {python}; mount --rbind /mnt/checkout {checkout}; mount --rbind /mnt/python {python}
hostname {name}
ip link set lo up
"""
_HOST = """
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add {address}/24 dev eth0; ip link set eth0 up; ip route add default via {network}.1
exec /usr/sbin/sshd -D -e -f /srv/home/.ssh/sshd_config
"""
_LAPTOP = """
ip link add br0 type bridge; ip address add {address}/24 dev br0; ip link set br0 up
while :; do sleep 1000; done
"""
_SSHD = """
ListenAddress {address}
HostKey /srv/home/.ssh/host_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
"""


@dataclass
class Host:
    """One of them; ``unshare`` runs while it lives, and ``init`` is the process id of its first process."""

    name: str
    address: str
    folder: Path
    unshare: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    init: int = 0


class Hosts:
    """The laptop and the hosts, which are named ``host1`` and so on and have the addresses ``NETWORK.11`` and so on."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.shared = folder, folder / "shared"
        self.shared.mkdir()
        self.of_laptop = Host("laptop", f"{NETWORK}.1", folder / "laptop")
        self.hosts = [Host(f"host{n}", f"{NETWORK}.{10 + n}", folder / f"host{n}") for n in range(1, count + 1)]
        for host in [self.of_laptop, *self.hosts]:
            self._furnish(host)

    def _furnish(self, host: Host) -> None:
        """Its disk: keys, the names of all, root's home."""
        for part in ("home/.ssh", "tmp"):
            (host.folder / part).mkdir(parents=True)
        (host.folder / "tmp").chmod(0o1777)
        ssh = host.folder / "home" / ".ssh"
        ssh.chmod(0o700)
        ours = self.of_laptop.folder / "home" / ".ssh" / KEY.name
        for key in (ssh / "host_key", ours):
            if not key.exists():
                _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key))
        (ssh / "authorized_keys").write_bytes(ours.with_suffix(".pub").read_bytes())
        (ssh / "sshd_config").write_text(_SSHD.format(address=host.address))
        others = "".join(f"{NETWORK}.{10 + n} host{n}\n" for n in range(1, 10) if f"host{n}" != host.name)
        # 127.0.1.1 for the own name is what Debian's installer writes
        (host.folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n{others}")
        users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        for user in users:
            if user[0] == "root":
                user[5:] = [str(HOME), "/bin/bash"]
        (host.folder / "passwd").write_text("".join(":".join(user) + "\n" for user in users))

    def _start(self, host: Host, then: str) -> None:
        words = {
            "checkout": shlex.quote(str(CHECKOUT)),
            "python": shlex.quote(sys.base_prefix),
            "folder": shlex.quote(str(host.folder)),
            "shared": shlex.quote(str(self.shared)),
            "name": host.name,
            "address": host.address,
            "network": NETWORK,
        }
        script = (_MOUNTS + then).format(**words)
        kinds = ("--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child")
        with (host.folder / "log.txt").open("wb") as log:
            host.unshare = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *kinds, "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        host.init = until(lambda: [p.pid for p in psutil.Process(host.unshare.pid).children()], f"{host.name} began")[0]

    def start(self) -> None:
        """All of them, until they answer."""
        self._start(self.of_laptop, _LAPTOP)
        until(lambda: self._ip("link", "show", "br0").returncode == 0, "the bridge was there")
        for host in self.hosts:
            self.revive(host)

    def revive(self, host: Host) -> None:
        """Start a host with the disk that it had, until its sshd answers."""
        self._start(host, _HOST)
        card = f"02:00:00:00:00:{host.address.rsplit('.')[-1]}"  # it keeps its card, and who knew it finds it again
        peer = ("peer", "name", "eth0", "address", card, "netns", str(host.init))
        added = self._ip("link", "add", host.name, "type", "veth", *peer)
        assert added.returncode == 0, added.stderr
        self._ip("link", "set", host.name, "master", "br0", "up")
        until(lambda: "listening" in (host.folder / "log.txt").read_text(), f"the sshd of {host.name} listened")
        until(lambda: self.ssh(host, "true", check=False).returncode == 0, f"{host.name} answered")

    def kill(self, host: Host) -> None:
        """A power cut: its cable goes silent first, so that nobody is told, then everything on it dies at once."""
        assert host.unshare is not None
        self._ip("link", "delete", host.name)
        os.kill(host.init, signal.SIGKILL)
        host.unshare.wait(WAIT_S)
        host.unshare = None

    def stop(self) -> None:
        """End all that live."""
        for host in [*self.hosts, self.of_laptop]:
            if host.unshare is not None:
                host.unshare.kill()  # and its child with it
                host.unshare.wait(WAIT_S)
                host.unshare = None

    def _ip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``ip`` in the network of the laptop, where all cables end."""
        return _call("nsenter", f"--net=/proc/{self.of_laptop.init}/ns/net", "ip", *arguments, check=False)

    def enter(self, host: Host, command: str) -> list[str]:
        """Arguments that run a command of bash on a host, in the checkout, with a login's environment and no more."""
        path = f"{CHECKOUT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = ["env", "-i", f"HOME={HOME}", f"PATH={path}", "USER=root", "LANG=C.UTF-8", "OMP_NUM_THREADS=1"]
        where = f"cd {shlex.quote(str(CHECKOUT))} && {command}"
        return ["nsenter", f"--target={host.init}", "--all", *environment, "bash", "-c", where]

    def laptop(self, command: str, check: bool = True, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command of bash on the laptop; what it printed is part of the error if it fails."""
        return _call(*self.enter(self.of_laptop, command), check=check, timeout_s=timeout_s)

    def ssh(self, host: Host, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a host as the laptop would, by ssh."""
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5"
        return self.laptop(f"ssh -n -i {KEY} {options} root@{host.address} {shlex.quote(command)}", check)

    def processes(self, host: Host) -> list[str]:
        """Command lines of everything that runs on it."""
        listing = _call(*self.enter(host, "ps -eo args=")).stdout.splitlines()
        return [line for line in listing if line]


def _call(*arguments: str, check: bool = True, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{arguments[-1]} exited {done.returncode}:\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}")
    return done


def until(truth: Callable[[], T], what: str, wait_s: float = WAIT_S) -> T:
    """What ``truth`` answers as soon as that is true; AssertionError, with ``what``, if it never is."""
    end = time.monotonic() + wait_s
    while not (answer := truth()):
        assert time.monotonic() < end, f"waited {wait_s} s until {what}"
        time.sleep(0.1)
    return answer


Some = TypeVar("Some", bound=Hosts)


@contextmanager
def hosts(folder: Path, count: int, kind: type[Some]) -> Iterator[Some]:
    """Hosts that live as long as the block.

    Args:
        folder: an empty one, for their disks.
        count: how many, besides the laptop.
        kind: what they are: :class:`Hosts`, or more than that.
    """
    made = kind(folder, count)
    try:
        made.start()
        yield made
    finally:
        made.stop()

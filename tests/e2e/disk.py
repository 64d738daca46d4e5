"""Filesystems for tests: images whose power can be cut, and disks too small.

Both need root, and images need loop devices.  Where they are not to be had a
test is skipped with a line that says so; where CI=true stands in the
environment it fails, for there nothing may go untried.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from server import wait_for

MIB = 1 << 20
LIBC = ctypes.CDLL(None)

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number and take one value:
# without the log flushed, as when the power fails.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

# Nothing may be written out by the mere passing of time; no time is spent on
# making what a few minutes will not need.
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-K"],
}
OPTIONS = {"ext4": "commit=600", "xfs": "nouuid", "btrfs": "commit=300"}


def cannot(reason):
    """This machine cannot try it: a failure in CI, elsewhere a skipped line."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"must be tried where CI=true, but cannot: {reason}")
    pytest.skip(reason)


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def stop_process(pid):
    """SIGSTOP, and wait until none of its threads runs or writes."""
    os.kill(pid, signal.SIGSTOP)
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        wait_for(lambda s=stat: is_stopped(s), "a process to stop")


def is_stopped(stat):
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "tTZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def must(*command):
    done = run(*command)
    assert done.returncode == 0, (command, done.stderr)


def mount(*args):
    """Mount; the test cannot be tried where that is not allowed."""
    if os.geteuid() != 0:
        cannot("needs root, to mount filesystems")
    done = run("mount", *args)
    if done.returncode != 0:
        cannot(f"needs the right to mount: {done.stderr.strip()}")


class Image:
    """A filesystem in a file, whose power can be cut."""

    def __init__(self, folder, kind, size, options):
        """`size` is that of a sparse file; XFS takes none below 300 MiB."""
        self.kind = kind
        self.options = f"loop,{OPTIONS[kind]},{options}".rstrip(",")
        self.folder = folder
        self.file = folder.with_suffix(".img")
        self.folder.mkdir()
        if shutil.which(MAKE[kind][0]) is None:
            cannot(f"{MAKE[kind][0]} is not installed")
        with open(self.file, "wb") as file:
            file.truncate(size)
        must(*MAKE[kind], self.file)
        self.mounted = False
        self.mount()

    def mount(self):
        """Mount it, as after a power cut: what a journal holds is replayed."""
        mount("-o", self.options, self.file, self.folder)
        self.mounted = True

    def cut(self, pids=()):
        """From now on nothing reaches the disk, and every call fails.

        Btrfs has no such ioctl: the processes are stopped, and what is on the
        disk by then takes the place of the image at the next mount.
        """
        if self.kind == "btrfs":
            for pid in pids:
                stop_process(pid)
            must("cp", "--sparse=always", self.file, f"{self.file}.cut")
            return
        with self.opened() as fd:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))

    def fail(self):
        """For ext4: an error is found, and what the options say is done."""
        device = os.stat(self.folder).st_dev
        name = os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        trigger = Path("/sys/fs/ext4", os.path.basename(name), "trigger_fs_error")
        trigger.write_text("a test\n")

    def sync(self):
        """What the kernel does now and then: write everything out."""
        with self.opened() as fd:
            assert LIBC.syncfs(fd) == 0

    @contextlib.contextmanager
    def opened(self):
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def remount(self):
        """What a start of the machine does; everybody has let go of it."""
        self.umount()
        if os.path.exists(f"{self.file}.cut"):
            os.rename(f"{self.file}.cut", self.file)
        self.mount()

    def umount(self):
        if self.mounted:
            must("umount", self.folder)
            self.mounted = False

    def drop(self):
        """Whatever happened: no mount, no loop device and no file is left."""
        if self.mounted:
            run("umount", "-l", self.folder)
        for file in (self.file, Path(f"{self.file}.cut")):
            file.unlink(missing_ok=True)


class Mounts:
    """Mounts that end with the test, the last first."""

    def __init__(self, base):
        self.base = base
        self.folders = []
        self.images = []

    def image(self, kind, size=320 * MIB, options=""):
        folder = self.base / f"{kind}-{len(self.images)}"
        self.images.append(Image(folder, kind, size, options))
        return self.images[-1]

    def tmpfs(self, folder, size=16 * MIB, inodes=0, mode="0700"):
        """A filesystem in memory of so many bytes and names (0: no limit)."""
        options = f"size={size},nr_inodes={inodes},mode={mode}"
        return self.add(folder, "-t", "tmpfs", "-o", options, "tmpfs")

    def bind(self, source, folder):
        return self.add(folder, "--bind", source)

    def add(self, folder, *args):
        folder.mkdir(parents=True, exist_ok=True)
        mount(*args, folder)
        self.folders.append(folder)
        return folder

    def remove(self, folder, *options):
        must("umount", *options, folder)
        self.folders.remove(folder)

    def drop(self):
        for folder in reversed(self.folders):
            run("umount", "-l", folder)
        for image in self.images:
            image.drop()

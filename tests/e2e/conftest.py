"""Fixtures of the end-to-end suite."""

import os
import random
import resource
import tempfile
import shutil
from pathlib import Path

import pytest

import dbfile
from app import Process
from disk import Mounts
from server import Server

COUNTS = []  # lines for the end of the run, such as "P3: 216 restores, 0 lost"


def pytest_configure(config):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(config, items):
    """Soak runs only when asked for; what looks at the whole session last."""
    if "soak" not in config.getoption("markexpr"):
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        terminalreporter.section("counts")
    for line in COUNTS:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report():
    """Call it with a line that stands at the end of the run's output."""
    return COUNTS.append


@pytest.fixture
def seed():
    """A seed for random choices, printed; HOLDFAST_SEED sets it."""
    value = os.environ.get("HOLDFAST_SEED") or str(
        random.SystemRandom().getrandbits(32)
    )
    print(f"HOLDFAST_SEED={value}")
    return value


@pytest.fixture
def base():
    """A folder that other users may enter (tmp_path is closed to them)."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-e2e-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def mounts(base):
    """Make filesystems; all are unmounted at the end, after the servers."""
    made = Mounts(base)
    yield made
    made.drop()


@pytest.fixture
def servers(base, mounts):
    """Make servers, each over a fresh data directory; all end with the test.

    servers(args=…, env=…) does not start it; with name= it gets a folder of
    its own.  At the end each one still running must stop cleanly.
    """
    made = []

    def make(name="one", **options):
        made.append(Server(base / name, **options))
        return made[-1]

    yield make
    try:
        for server in made:
            server.stop()
    finally:
        for server in made:
            server.abandon()


@pytest.fixture
def idle(servers, base):
    """A server over one small database in WAL mode, not yet started."""
    server = servers()
    server.prepare(dbfile.make(base / "new.db"))
    return server


@pytest.fixture
def server(idle):
    """A running server over one small database in WAL mode."""
    return idle.start()


@pytest.fixture
def in_memory():
    """A running server whose files are in memory, where that is possible: for
    tests of many contents, to which syncs add nothing but time.
    """
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = Path(tempfile.mkdtemp(prefix="holdfast-e2e-", dir=folder))
    server = Server(base)
    server.live().parent.mkdir(mode=0o700, parents=True)
    try:
        yield server.start()
        server.stop()
    finally:
        server.abandon()
        shutil.rmtree(base)


@pytest.fixture
def shells():
    """Start application processes that run SQL; killed at the end."""
    started = []

    def start(path, timeout=20, **popen):
        started.append(Process("shell", path, timeout, **popen))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()

"""P9: memory does not grow with the database.

A sparse database of many gigabytes, nearly all of it free pages, is backed
up, verified, restored and downloaded in part.  HOLDFAST_SPARSE_GIB says how
large (10 by default).
"""

import os
import shutil
import struct

import pytest

import dbfile
from server import BACKUP
from test_load import assert_memory_bounded

GIB = 1 << 30
SIZE = int(float(os.environ.get("HOLDFAST_SPARSE_GIB", "10")) * GIB)
PAGE = 4096
LEAVES = PAGE // 4 - 8  # of one trunk page (file format, 1.5)
LOCK_PAGE = GIB // PAGE + 1  # which is never used
pytestmark = pytest.mark.soak


def grow(path, size):
    """Add free pages up to that size; only the trunks of their list have bytes."""
    first = path.stat().st_size // PAGE + 1
    free = [n for n in range(first, size // PAGE + 1) if n != LOCK_PAGE]
    trunks = range(0, len(free), LEAVES + 1)
    with open(path, "r+b") as file:
        file.truncate(size)
        for at in trunks:
            leaves = free[at + 1 : at + 1 + LEAVES]
            following = at + LEAVES + 1
            after = free[following] if following < len(free) else 0
            file.seek((free[at] - 1) * PAGE)
            file.write(struct.pack(f">{len(leaves) + 2}I", after, len(leaves), *leaves))
        file.seek(28)
        file.write(struct.pack(">III", size // PAGE, free[0], len(free)))


def patiently(server, path):
    response = server.request("POST", path, timeout=3600)
    assert response.status == 200, response
    return response.json()


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_memory_does_not_grow_with_the_database(servers, base, report, mode):
    if shutil.disk_usage(base).free < 4 * SIZE:
        pytest.skip(f"{4 * SIZE // GIB} GiB of free disk are wanted")
    server = servers()
    path = dbfile.make(base / "x.db", journal="delete")
    grow(path, SIZE)
    dbfile.execute(path, f"PRAGMA journal_mode={mode}")
    live = server.prepare(path)
    server.start()
    name = patiently(server, BACKUP)["filename"]
    dbfile.execute(live, "UPDATE item SET text='changed'")
    assert patiently(server, f"{BACKUP}/{name}/restore")["restored_from"] == name
    assert dbfile.query(live, "SELECT count(*) FROM item WHERE text='changed'") == [(0,)]
    verified = patiently(server, f"{BACKUP}/{name}/verify")
    assert verified["proof"]["result"] == "ok", verified
    part = server.get(f"{BACKUP}/{name}/download", range="bytes=-4096")
    assert part.status == 206 and len(part.body) == 4096
    assert_memory_bounded(server, report, f"{SIZE / GIB:g} GiB, {mode}")

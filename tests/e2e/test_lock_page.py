"""P1, P3: the page that SQLite never uses, at 1 GiB, is no obstacle.

A database of a little more than 1 GiB whose rows stand on both sides of that
page; all else is free pages that hold nothing, so that the file is sparse.
"""

import os
import shutil
import struct

import pytest

import dbfile
from server import BACKUP

GIB = 1 << 30
BEYOND = 40  # pages behind the lock page
CHUNK = 1 << 24

pytestmark = pytest.mark.soak


def lock_page(page_size):
    return GIB // page_size + 1


def put_free_pages(path, page_size):
    """Make all pages up to the end free ones, those around the lock page first.

    A trunk page of the list of free pages: the next trunk, a count, the others.
    """
    lock = lock_page(page_size)
    used = path.stat().st_size // page_size
    last = lock + BEYOND
    first = [*range(lock - 25, lock), *range(lock + 1, last)]
    rest = list(range(used + 1, lock - 25))
    room = page_size // 4 - 8
    trunks = [(last, first)]
    while rest:
        trunks.append((rest.pop(), rest[-room:]))
        del rest[-room:]
    n_free = sum(1 + len(leaves) for _, leaves in trunks)
    with open(path, "r+b") as file:
        file.truncate(last * page_size)
        for i, (page, leaves) in enumerate(trunks):
            following = trunks[i + 1][0] if i + 1 < len(trunks) else 0
            file.seek((page - 1) * page_size)
            file.write(
                struct.pack(f">{len(leaves) + 2}I", following, len(leaves), *leaves)
            )
        file.seek(24)
        counter = file.read(4)
        file.seek(28)
        file.write(struct.pack(">III", last, trunks[0][0], n_free))
        file.seek(92)
        file.write(counter)


def put_garbage(path, page_size):
    """What stands in the lock page is nobody's business."""
    with open(path, "r+b") as file:
        file.seek(GIB)
        file.write(b"\x55" * page_size)


def make(path, page_size, mode):
    dbfile.make(path, 20, page_size=page_size, journal="delete")
    put_free_pages(path, page_size)
    sql = f"""
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<45)
        INSERT INTO item(text) SELECT hex(randomblob({page_size * 2 // 5})) FROM n
    """
    free = dbfile.pragma(path, "freelist_count")
    dbfile.execute(path, sql, f"PRAGMA journal_mode={mode}")
    assert dbfile.pragma(path, "freelist_count") <= free - 45
    put_garbage(path, page_size)
    return path


def difference(a, b, page_size):
    """The first byte in which two files differ, but for what is the live one's."""
    assert a.stat().st_size == b.stat().st_size
    with open(a, "rb") as left, open(b, "rb") as right:
        for at in range(0, a.stat().st_size, CHUNK):
            one, two = bytearray(left.read(CHUNK)), bytearray(right.read(CHUNK))
            if at == 0:
                for start, end in dbfile.OWN_BYTES:
                    one[start:end] = two[start:end] = bytes(end - start)
            if at <= GIB < at + CHUNK:
                here = slice(GIB - at, GIB - at + page_size)
                one[here] = two[here] = bytes(page_size)
            if one != two:
                return at + next(i for i in range(len(one)) if one[i] != two[i])
    return None


def truncate_wal(live):
    dbfile.execute(live, "PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("page_size", [4096, 65536])
def test_a_database_beyond_the_lock_page(servers, base, report, page_size, mode):
    """Copied, changed on both sides of it, restored; cut to nothing, restored."""
    server = servers()
    live = server.prepare(make(base / "x.db", page_size, mode))
    original = base / "original.db"
    shutil.copyfile(live, original)
    content = dbfile.content_digest(live)
    server.start()
    name = server.create()["filename"]
    copy = server.backup_path(name)
    assert difference(copy, original, page_size) is None
    assert dbfile.integrity(copy, readonly=True) == "ok"
    dbfile.execute(
        live, "UPDATE item SET text='0'||text", "DELETE FROM item WHERE id<9"
    )
    assert difference(copy, live, page_size) is not None
    server.restore(name)
    truncate_wal(live)
    assert difference(live, original, page_size) is None
    assert dbfile.content_digest(live) == content
    dbfile.execute(live, "DELETE FROM item", "VACUUM")
    truncate_wal(live)
    assert live.stat().st_size < GIB // 2
    server.restore(name)
    truncate_wal(live)
    assert difference(live, original, page_size) is None
    assert dbfile.integrity(live) == "ok"
    report(
        f"Lock page: {live.stat().st_size} bytes in pages of {page_size}, {mode}: equal"
    )


def test_control_garbage_in_another_page_is_seen(servers, base):
    """In a page beside the lock page it is damage, and told."""
    server = servers()
    live = make(base / "x.db", 65536, "delete")
    with open(live, "r+b") as file:
        file.seek(GIB + 65536)
        file.write(os.urandom(65536))
    server.prepare(live)
    server.start()
    response = server.post(BACKUP)
    assert (response.status, response.error) == (422, "OPERATION_FAILED")

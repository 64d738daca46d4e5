"""Database files: making them, looking into them, comparing them.

The functions that open a file with plain open() are for files that this
process has not open through SQLite at that moment: closing a descriptor drops
the locks that SQLite holds on the same file.
"""

import contextlib
import hashlib
import os
import sqlite3
import struct
from pathlib import Path

PAGE_SIZES = (512, 4096, 65536)
AUTO_VACUUM = (0, 1, 2)
JOURNAL_MODES = ("wal", "delete")

# Bytes of page 1 that a restore leaves to the live database: journal mode,
# change counter, schema cookie, version-valid-for and library version.
OWN_BYTES = ((18, 20), (24, 28), (40, 44), (92, 100))


@contextlib.contextmanager
def opened(path, readonly=False, timeout=20):
    """A connection in autocommit mode, closed at the end."""
    mode = "ro" if readonly else "rw"
    uri = f"file:{Path(path).resolve()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    db.text_factory = bytes
    try:
        yield db
    finally:
        db.close()


def make(
    path,
    rows=200,
    seed=1,
    page_size=4096,
    auto_vacuum=0,
    journal="wal",
    encoding="UTF-8",
    free=False,
    sql="",
):
    """A database with an indexed table of `rows` rows; returns its path."""
    path = Path(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA page_size={page_size}")
    db.execute(f"PRAGMA encoding='{encoding}'")
    db.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    db.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT)")
    db.execute("CREATE INDEX item_text ON item(text)")
    values = ((f"{seed}-{i}-{'x' * (i % 700)}",) for i in range(rows))
    db.executemany("INSERT INTO item(text) VALUES(?)", values)
    db.execute("COMMIT")
    if free:
        db.execute("DELETE FROM item WHERE id%3=0")
    db.executescript(sql)
    db.execute(f"PRAGMA journal_mode={journal}")
    db.close()
    return path


def query(path, sql, readonly=False):
    with opened(path, readonly) as db:
        return db.execute(sql).fetchall()


def execute(path, *statements):
    """Run statements on a connection of their own, and close it."""
    with opened(path) as db:
        for statement in statements:
            db.execute(statement)


def pragma(path, name, readonly=False):
    return query(path, f"PRAGMA {name}", readonly)[0][0]


def integrity(path, readonly=False):
    """The findings of integrity_check as one text; "ok" when there are none."""
    try:
        rows = query(path, "PRAGMA integrity_check(3)", readonly)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "; ".join(row[0].decode() for row in rows)


def content_digest(path, readonly=False):
    """A hash over schema, rows and the settings that belong to the content."""
    with opened(path, readonly) as db:
        return connection_digest(db)


def connection_digest(db):
    """content_digest of an open connection, in one read transaction."""
    digest = hashlib.sha256()
    db.execute("BEGIN")
    for name in ("user_version", "application_id", "encoding"):
        digest.update(repr(db.execute(f"PRAGMA {name}").fetchall()).encode())
    schema = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    digest.update(repr(schema).encode())
    for kind, name, _, _ in schema:
        if as_text(kind) == "table":
            quoted = as_text(name).replace('"', '""')
            for row in db.execute(f'SELECT * FROM "{quoted}" NOT INDEXED'):
                digest.update(repr(row).encode())
    db.execute("COMMIT")
    return digest.hexdigest()


def as_text(value):
    return value.decode() if isinstance(value, bytes) else value


def header(path):
    """Some fields of the first 100 bytes (file format, 1.3)."""
    with open(path, "rb") as file:
        raw = file.read(100)
    assert raw[:16] == b"SQLite format 3\0", raw[:16]
    page_size = struct.unpack(">H", raw[16:18])[0]
    return {
        "page_size": 65536 if page_size == 1 else page_size,
        "journal": (raw[18], raw[19]),
        "change_counter": struct.unpack(">I", raw[24:28])[0],
        "pages": struct.unpack(">I", raw[28:32])[0],
        "cookie": struct.unpack(">I", raw[40:44])[0],
        "encoding": struct.unpack(">I", raw[56:60])[0],
        "user_version": struct.unpack(">I", raw[60:64])[0],
        "application_id": struct.unpack(">I", raw[68:72])[0],
    }


def assert_backup_ok(path):
    """A backup opens anywhere, also read-only, alone, and is sound."""
    path = Path(path)
    fields = header(path)
    size = path.stat().st_size
    assert size > 0 and size % fields["page_size"] == 0, (size, fields)
    assert size == fields["pages"] * fields["page_size"], (size, fields)
    assert fields["journal"] == (1, 1), fields
    assert integrity(path, readonly=True) == "ok", path
    assert_alone(path)


def assert_alone(path):
    for suffix in ("-wal", "-shm", "-journal"):
        assert not Path(f"{path}{suffix}").exists(), suffix


def page_bytes(path):
    """The whole file, with the bytes that belong to the live file set to 0."""
    raw = bytearray(Path(path).read_bytes())
    for start, end in OWN_BYTES:
        raw[start:end] = bytes(end - start)
    return bytes(raw)


def file_digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def state_of(path):
    """Inode, mode, time and content of a file nobody has open."""
    info = path.stat()
    return (info.st_ino, info.st_mode, info.st_mtime_ns, file_digest(path))


def tree(folder):
    """Every file and folder beneath: kind, mode, owner and content."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent) / name
            info = path.lstat()
            content = file_digest(path) if path.is_file() else "folder"
            found[str(path.relative_to(folder))] = (
                info.st_mode,
                info.st_uid,
                info.st_gid,
                content,
            )
    return found


def flip(path, offset, bit=0):
    """Turn one bit of a file over."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))

"""Database files that mean harm, or have come to it.

Each maker gives the bytes of one file.  All begin from one small database
that has a bit of everything; damage is done to known places of it, so that it
hits what it is meant for.  `CASES` names them with what is to be made of them:

    DAMAGED   SQLite's own check finds it, so ours must
    FOREIGN   no SQLite database
    LIMIT     may take a check past its limits
    STRANGE   sound or not, as SQLite says; it must only do no harm
"""

import functools
import random
import sqlite3
import struct
import tempfile
from pathlib import Path

DAMAGED, FOREIGN, LIMIT, STRANGE = "damaged", "foreign", "limit", "strange"

PAGE = 1024
MAGIC = b"SQLite format 3\0"

BASE_SQL = """
    CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT);
    CREATE INDEX item_text ON item(text);
    CREATE TABLE big(x BLOB);
    CREATE TABLE gone(x BLOB);
    CREATE TABLE w(a TEXT, b INTEGER, PRIMARY KEY(a, b)) WITHOUT ROWID;
    CREATE VIRTUAL TABLE f USING fts5(body);
    CREATE VIRTUAL TABLE r USING rtree(id, x0, x1);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200)
        INSERT INTO item(text) SELECT 'row ' || i || hex(zeroblob(i%40)) FROM n;
    INSERT INTO big VALUES(zeroblob(9000)), (zeroblob(20000));
    INSERT INTO gone VALUES(zeroblob(30000));
    DROP TABLE gone;
    INSERT INTO w SELECT text, id FROM item WHERE id<50;
    INSERT INTO f SELECT text FROM item;
    INSERT INTO r SELECT id, id, id+1 FROM item;
"""


def build(sql, page_size=PAGE):
    """The bytes of a database that these statements make."""
    with tempfile.TemporaryDirectory(prefix="holdfast-hostile-") as folder:
        path = Path(folder, "x.db")
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(f"PRAGMA page_size={page_size}")
        db.executescript(f"PRAGMA synchronous=OFF; BEGIN; {sql}; COMMIT")
        db.close()
        return path.read_bytes()


@functools.lru_cache(maxsize=None)
def base():
    return build(BASE_SQL)


@functools.lru_cache(maxsize=None)
def root(name):
    """The root page of a table or index of the base."""
    with tempfile.NamedTemporaryFile(prefix="holdfast-hostile-") as file:
        file.write(base())
        file.flush()
        db = sqlite3.connect(file.name)
        sql = "SELECT rootpage FROM sqlite_master WHERE name=?"
        page = db.execute(sql, (name,)).fetchone()[0]
        db.close()
        return page


def patched(*changes, content=None):
    """The base with bytes written over it: (offset, bytes) each."""
    data = bytearray(base() if content is None else content)
    for offset, new in changes:
        data[offset : offset + len(new)] = new
    return bytes(data)


def u32(value):
    return struct.pack(">I", value & 0xFFFFFFFF)


def at(page, offset=0):
    return (page - 1) * PAGE + offset


def page_of(content, number):
    return content[at(number) : at(number + 1)]


def first_child(page):
    """The first child of an interior page."""
    raw = page_of(base(), page)
    assert raw[0] in (2, 5), raw[0]
    cell = struct.unpack(">H", raw[12:14])[0]
    return struct.unpack(">I", raw[cell : cell + 4])[0]


def first_cell(page):
    """Where the first cell of a page lies in the file."""
    raw = page_of(base(), page)
    header = 12 if raw[0] in (2, 5) else 8
    return at(page, struct.unpack(">H", raw[header : header + 2])[0])


def overflow_page():
    """The first overflow page of the first row of `big`."""
    raw = page_of(base(), root("big"))
    for number in range(2, len(base()) // PAGE + 1):
        if raw.count(u32(number)):
            return number
    raise AssertionError("no overflow page")


# ---- lengths and headers ----


def lengths():
    whole = base()
    yield "empty", DAMAGED, b""
    yield "16 bytes", DAMAGED, whole[:16]
    yield "50 bytes", DAMAGED, whole[:50]
    yield "100 bytes", DAMAGED, whole[:100]
    yield "half", DAMAGED, whole[: len(whole) // 2]
    yield "100 bytes short", DAMAGED, whole[:-100]
    yield "a page short", DAMAGED, whole[:-PAGE]
    yield "a page more", DAMAGED, whole + bytes(PAGE)
    yield "a byte more", DAMAGED, whole + b"\0"
    yield "one page only", DAMAGED, whole[:PAGE]


def headers():
    whole = base()
    yield "bad magic", FOREIGN, b"SQLite format 4\0" + whole[16:]
    yield "text", FOREIGN, b"name,amount\n" * 1000
    yield "zeros", DAMAGED, bytes(len(whole))
    yield "noise", FOREIGN, random.Random(7).randbytes(16 * PAGE)
    for size in (0, 2, 3, 256, 511, 1023, 4097, 65535):
        yield f"page size {size}", DAMAGED, patched((16, struct.pack(">H", size)))
    yield "page size 512", DAMAGED, patched((16, struct.pack(">H", 512)))
    yield "page size 65536", DAMAGED, patched((16, struct.pack(">H", 1)))
    yield "reserved 255", DAMAGED, patched((20, b"\xff"))
    yield "write version 9", DAMAGED, patched((18, b"\x09\x09"))
    yield "fractions", DAMAGED, patched((21, b"\x01\x02\x03"))
    yield "encoding 9", DAMAGED, patched((56, u32(9)))
    yield "schema format 99", DAMAGED, patched((44, u32(99)))
    yield "2^32-1 pages", DAMAGED, patched((28, u32(-1)))
    yield "WAL without a WAL", STRANGE, patched((18, b"\2\2"))
    yield "auto-vacuum without its pages", DAMAGED, patched((52, u32(3)))


# ---- pages ----


def trees():
    item = root("item")
    child = first_child(item)
    whole = base()
    leaf = first_cell(child)
    yield "child is itself", DAMAGED, patched((first_cell(item), u32(item)))
    yield "child is page 1", DAMAGED, patched((first_cell(item), u32(1)))
    yield "right child is itself", DAMAGED, patched((at(item, 8), u32(item)))
    yield "child beyond the end", DAMAGED, patched((first_cell(item), u32(-2)))
    yield "child is page 0", DAMAGED, patched((first_cell(item), u32(0)))
    yield "two parents", DAMAGED, patched((at(item, 8), u32(child)))
    yield "parent below its child", DAMAGED, patched(
        (at(child), b"\x05\0\0\0\1\x03\xf0\0" + u32(item) + b"\x03\xf0"),
        (at(child, 0x3F0), u32(item) + b"\1"),
    )
    yield "huge payload", DAMAGED, patched((leaf, b"\xff" * 8 + b"\x7f"))
    yield "payload of 2 GiB", DAMAGED, patched((leaf, b"\x87\xff\xff\xff\x7f"))
    yield "65535 cells", DAMAGED, patched((at(child, 3), b"\xff\xff"))
    yield "cells in the header", DAMAGED, patched((at(child, 8), bytes(64)))
    yield "cell past the page", DAMAGED, patched((at(child, 8), b"\x03\xff"))
    yield "page of no kind", DAMAGED, patched((at(child), b"\x07"))
    yield "an index in a table", DAMAGED, patched((at(child), b"\x0a"))
    yield "free blocks loop", DAMAGED, patched(
        (at(child, 1), b"\x03\x00"), (at(child, 0x300), b"\x03\x00\x00\x08")
    )
    yield "page 1 is noise", DAMAGED, patched(
        (100, random.Random(8).randbytes(PAGE - 100))
    )
    yield "all pages but the first are the second", DAMAGED, whole[
        :PAGE
    ] + whole[PAGE : 2 * PAGE] * (len(whole) // PAGE - 1)


def chains():
    page = overflow_page()
    trunk = struct.unpack(">I", base()[32:36])[0]
    yield "overflow chain loops", DAMAGED, patched((at(page), u32(page)))
    yield "overflow chain ends early", DAMAGED, patched((at(page), u32(0)))
    yield "overflow into the schema", DAMAGED, patched((at(page), u32(1)))
    yield "overflow past the end", DAMAGED, patched((at(page), u32(-1)))
    yield "free list loops", DAMAGED, patched((at(trunk), u32(trunk)))
    yield "free list is page 1", DAMAGED, patched((32, u32(1)))
    yield "free list past the end", DAMAGED, patched((32, u32(-5)))
    yield "free list without end", DAMAGED, patched((at(trunk, 4), u32(-1)))
    yield "2^31 free pages", DAMAGED, patched((36, u32(1 << 31)))
    yield "free list holds a table", DAMAGED, patched((at(trunk, 8), u32(root("item"))))


# ---- schemas ----


def schema_row(sql, name="t", kind="table", page=2, more=""):
    """A database whose schema says `sql`, whatever SQLite would think of it."""
    quoted = sql.replace("'", "''")
    return build(
        f"CREATE TABLE first(a); {more}; PRAGMA writable_schema=ON; "
        f"INSERT INTO sqlite_master VALUES('{kind}','{name}','{name}',{page},"
        f"'{quoted}')"
    )


def rows_of(expression, rows=1):
    """A table with a CHECK constraint that is made to hurt."""
    return build(
        f"PRAGMA ignore_check_constraints=ON; CREATE TABLE t(x CHECK({expression}));"
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{rows})"
        "INSERT INTO t SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' FROM n"
    )


def bombs():
    zeros = "length(hex(zeroblob(2e8)))>=0"
    yield "CHECK bomb", LIMIT, rows_of(zeros)
    slow = [f"instr(hex(zeroblob(length(x)*{300_000 + i})),1)=0" for i in range(160)]
    many = " AND ".join(slow)
    assert 6000 < len(many) < 8200
    yield "CHECK bomb of 8 KB", LIMIT, rows_of(many, rows=50)
    yield "CHECK that grows", LIMIT, rows_of(
        "length(replace(replace(hex(zeroblob(1e6)),'0','0000000'),'0','0000000'))>0"
    )
    yield "CHECK that formats", LIMIT, rows_of("length(printf('%.*c',900000000,x))>0")
    yield "CHECK 900 deep", LIMIT, rows_of("+".join(["x"] * 900) + ">=0")
    yield "generated bomb", LIMIT, build(
        "CREATE TABLE t(x, y AS (hex(zeroblob(length(x)*9000000))) VIRTUAL NOT NULL);"
        "INSERT INTO t VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaa')"
    )
    yield "recursive view", STRANGE, build(
        "CREATE VIEW v AS SELECT * FROM w; CREATE VIEW w AS SELECT * FROM v"
    )
    yield "view of itself", STRANGE, schema_row(
        "CREATE VIEW v AS SELECT * FROM v", "v", "view", 0
    )
    chain = ";".join(
        f"CREATE VIEW v{i} AS SELECT a.x FROM v{i - 1} a, v{i - 1} b"
        for i in range(1, 60)
    )
    yield "views that double", STRANGE, build(f"CREATE TABLE v0(x); {chain}")
    deep = ";".join(
        f"CREATE VIEW v{i} AS SELECT x FROM v{i - 1}" for i in range(1, 1500)
    )
    yield "1,500 views deep", STRANGE, build(f"CREATE TABLE v0(x); {deep}")
    triggers = ";".join(
        f"CREATE TRIGGER g{i} AFTER INSERT ON t BEGIN INSERT INTO t VALUES(new.x); END"
        for i in range(3000)
    )
    yield "3,000 triggers", STRANGE, build(f"CREATE TABLE t(x); {triggers}")
    tables = ";".join(f"CREATE TABLE t{i}(a,b,c,d)" for i in range(4000))
    yield "4,000 tables", STRANGE, build(tables)
    columns = ",".join(f"c{i}" for i in range(1900))
    wide = ";".join(f"CREATE TABLE t{i}({columns})" for i in range(60))
    yield "1,900 columns in each table", LIMIT, build(wide)
    yield "a schema of 24 MB", LIMIT, schema_row(
        "CREATE TABLE t(a CHECK(a<>'" + "x" * 24_000_000 + "'))"
    )


def slow():
    """A file of some 20 KB whose check takes hours."""
    return rows_of(f"hex(zeroblob(2000000)) NOT LIKE '{'%0' * 60}1'", rows=3000)


def schemas():
    create = "CREATE TABLE t(a)"
    yield "root page 0", DAMAGED, schema_row(create, page=0)
    yield "root page 1", DAMAGED, schema_row(create, page=1)
    yield "root page of another", DAMAGED, schema_row(create, page=2)
    yield "root page past the end", DAMAGED, schema_row(create, page=10**9)
    yield "root page negative", DAMAGED, schema_row(create, page=-7)
    yield "schema is no SQL", DAMAGED, schema_row("CREATE TABLE t(((")
    yield "schema selects", DAMAGED, schema_row("SELECT load_extension('x')")
    yield "schema attaches", DAMAGED, schema_row("ATTACH '/etc/passwd' AS x")
    yield "schema of NULLs", STRANGE, build(
        "CREATE TABLE t(a); PRAGMA writable_schema=ON;"
        "INSERT INTO sqlite_master VALUES(NULL,NULL,NULL,NULL,NULL)"
    )
    yield "doubled table", DAMAGED, schema_row("CREATE TABLE first(a)", "first")
    yield "names with signs", STRANGE, build(
        'CREATE TABLE "a\nb\x1b[2J"(x); CREATE TABLE "../../etc/passwd"(x);'
        "CREATE INDEX \"'; DROP TABLE x; --\" ON \"a\nb\x1b[2J\"(x)"
    )
    for module in ("dbstat", "sqlite_dbpage", "fts5vocab(f,col)", "csv(filename='/etc/passwd')"):
        yield f"virtual {module[:9]}", STRANGE, schema_row(
            f"CREATE VIRTUAL TABLE v USING {module}", "v", page=0
        )


def shadow(sql):
    return build(f"{BASE_SQL}; PRAGMA writable_schema=ON; {sql}")


def shadows():
    yield "FTS5 segments are noise", DAMAGED, shadow(
        "UPDATE f_data SET block=randomblob(length(block)) WHERE id>1"
    )
    yield "FTS5 structure is noise", DAMAGED, shadow(
        "UPDATE f_data SET block=randomblob(40) WHERE id=10"
    )
    yield "FTS5 structure is huge", DAMAGED, shadow(
        "UPDATE f_data SET block=x'00000001ffffffff0f0fffffffff0f' WHERE id=10"
    )
    yield "FTS5 without segments", DAMAGED, shadow("DELETE FROM f_data WHERE id>10")
    yield "FTS5 without a table", DAMAGED, shadow("DROP TABLE f_data")
    yield "FTS5 of another version", STRANGE, shadow("UPDATE f_config SET v=99")
    yield "RTREE nodes are noise", DAMAGED, shadow(
        "UPDATE r_node SET data=randomblob(length(data))"
    )
    yield "RTREE nodes are short", DAMAGED, shadow("UPDATE r_node SET data=x'0000'")
    yield "RTREE of depth 60000", DAMAGED, shadow(
        "UPDATE r_node SET data=x'ea60ffff' || substr(data,5) WHERE nodeno=1"
    )
    yield "RTREE that loops", DAMAGED, shadow("UPDATE r_parent SET parentnode=nodeno")
    yield "RTREE without rows", DAMAGED, shadow("DELETE FROM r_rowid")


# ---- many ----


def truncations():
    for n in range(1, len(base()) // PAGE):
        yield f"cut after page {n}", base()[: n * PAGE]


def flips(rng, n):
    """Bits of the header, turned over."""
    for _ in range(n):
        offset, bit = rng.randrange(100), rng.randrange(8)
        content = bytearray(base())
        content[offset] ^= 1 << bit
        yield f"byte {offset} bit {bit}", bytes(content)


def mutations(rng, n):
    """Random damage, mostly where structure is."""
    for i in range(n):
        content = bytearray(base())
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            page = rng.randrange(len(content) // PAGE)
            spot = rng.choice((rng.randrange(16), rng.randrange(PAGE)))
            where = page * PAGE + spot
            content[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        yield f"mutation {i}", bytes(content)


@functools.lru_cache(maxsize=None)
def cases():
    """All crafted files: (name, kind, bytes)."""
    found = []
    for maker in (lengths, headers, trees, chains, schemas, shadows, bombs):
        found += maker()
    assert len({name for name, _, _ in found}) == len(found)
    return found

"""The databases that the bench works on: orders of a shop, the same at every
making."""

import os
import random
import shutil
import sqlite3

PAGE_SIZE = 4096
ORDERS_PER_PAGE = 5.69  # as it comes out, with the items and the index
N_CUSTOMERS = 20_000
BATCH = 20_000

SCHEMA = """
CREATE TABLE customers(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL);
CREATE TABLE orders(
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers(id),
    placed_at TEXT NOT NULL,
    total_cents INTEGER NOT NULL,
    note TEXT NOT NULL);
CREATE TABLE items(
    order_id INTEGER NOT NULL REFERENCES orders(id),
    position INTEGER NOT NULL,
    product_id INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    price_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)) WITHOUT ROWID;
CREATE TABLE log(id INTEGER PRIMARY KEY, at REAL NOT NULL, what TEXT NOT NULL);
CREATE TABLE state(name TEXT NOT NULL);
INSERT INTO state VALUES('backup');
"""
INDEX = "CREATE INDEX orders_customer ON orders(customer_id, placed_at)"

WORDS = (
    "deliver before noon please ring twice gift wrapped leave at the door call "
    "ahead second floor blue large small spare part return exchanged voucher paid "
    "by card invoice follows express fragile keep upright left with neighbour"
).split()


def connect(path):
    """Open a database as an application does: autocommit, patient."""
    return sqlite3.connect(path, timeout=120, isolation_level=None)


def rows_of(rng, text, first, n):
    """n orders from the id `first` on, and their items."""
    bits = rng.getrandbits
    orders, items = [], []
    for i in range(first, first + n):
        minute = i % 525_600
        at = bits(19)
        placed = f"2025-{minute // 43_800 + 1:02}-{minute % 28 + 1:02}T{minute % 24:02}"
        orders.append(
            (i, bits(14) + 1, placed, bits(20), text[at : at + 40 + bits(10)])
        )
        for position in range(1 + bits(2)):
            items.append((i, position, bits(13), 1 + bits(3), bits(16)))
    return orders, items


def make(path, n_pages, seed=1):
    """Make a database of about n_pages pages at path, synced."""
    rng = random.Random(seed)
    text = " ".join(rng.choice(WORDS) for _ in range(110_000))
    n_orders = int(n_pages * ORDERS_PER_PAGE)
    db = connect(path)
    db.execute(f"PRAGMA page_size={PAGE_SIZE}")
    db.execute("PRAGMA journal_mode=OFF")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA cache_size=-200000")
    db.executescript(SCHEMA)
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO customers VALUES(?,?,?)",
        ((i, f"Customer {i}", f"c{i}@shop.example") for i in range(1, N_CUSTOMERS)),
    )
    for first in range(1, n_orders + 1, BATCH):
        n = min(BATCH, n_orders + 1 - first)
        orders, items = rows_of(rng, text, first, n)
        db.executemany("INSERT INTO orders VALUES(?,?,?,?,?)", orders)
        db.executemany("INSERT INTO items VALUES(?,?,?,?,?)", items)
    db.execute("COMMIT")
    db.execute(INDEX)
    db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    sync(path)


def change(path, fraction, name):
    """Change `fraction` of the pages, evenly spread, each by one row whose
    length stays the same; `name` says what state this is."""
    db = connect(path)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (orders,) = db.execute("SELECT max(id) FROM orders").fetchone()
    n = max(1, int(pages * fraction))
    db.execute("BEGIN IMMEDIATE")
    db.executemany(
        "UPDATE orders SET note = CASE note WHEN upper(note) THEN lower(note)"
        " ELSE upper(note) END WHERE id = ?",
        ((1 + i * orders // n,) for i in range(n)),
    )
    db.execute("UPDATE state SET name = ?", (name,))
    db.execute("COMMIT")
    db.close()


def rewrite(source, path, name):
    """The same rows in another order of pages, so that all of them differ."""
    db = connect(source)
    db.execute("VACUUM INTO ?", (path,))
    db.close()
    db = connect(path)
    db.execute("UPDATE state SET name = ?", (name,))
    db.close()
    sync(path)


def set_mode(path, mode):
    """Put a database that nobody has open into a journal mode."""
    db = connect(path)
    (got,) = db.execute(f"PRAGMA journal_mode={mode}").fetchone()
    db.close()
    if got != mode:
        raise RuntimeError(f"journal mode {mode} was refused: {got}")


def state(path):
    """Which state the database is in, as `change` and `rewrite` named it."""
    db = connect(path)
    (name,) = db.execute("SELECT name FROM state").fetchone()
    db.close()
    return name


def differing(one, other):
    """The share of the pages of `other` that are not the same in `one`."""
    n = same = 0
    with open(one, "rb") as f, open(other, "rb") as g:
        while page := g.read(PAGE_SIZE):
            n += 1
            same += page == f.read(PAGE_SIZE)
    return (n - same) / n


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def place(source, path):
    """Put a fresh, synced copy of `source` at path; nobody may have it open."""
    for ending in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + ending):
            os.unlink(path + ending)
    shutil.copyfile(source, path)
    sync(path)


def warm(path):
    """Bring a file into the page cache."""
    with open(path, "rb", buffering=0) as f:
        buf = bytearray(1 << 20)
        while f.readinto(buf):
            pass

"""The demo's database: a small shop, the same at every making, about 50 MB."""

import os
import random
import sqlite3

SCHEMA = """
CREATE TABLE customers(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    city TEXT NOT NULL,
    since TEXT NOT NULL);
CREATE TABLE products(
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    stock INTEGER NOT NULL);
CREATE VIRTUAL TABLE products_text USING fts5(
    name, description, content=products, content_rowid=id);
CREATE TABLE orders(
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers(id),
    placed_at TEXT NOT NULL,
    note TEXT NOT NULL,
    total_cents INTEGER NOT NULL);
CREATE TABLE order_items(
    order_id INTEGER NOT NULL REFERENCES orders(id),
    position INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES products(id),
    quantity INTEGER NOT NULL,
    price_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)) WITHOUT ROWID;
"""

# Made after the rows, which is quicker.
INDEXES = """
CREATE INDEX customers_city ON customers(city, name);
CREATE INDEX orders_customer ON orders(customer_id, placed_at);
CREATE INDEX order_items_product ON order_items(product_id);
INSERT INTO products_text(products_text) VALUES ('rebuild');
"""

N_CUSTOMERS = 30_000
N_PRODUCTS = 8_000
N_ORDERS = 170_000

FIRST = ("Ada Ben Chloe David Elif Femi Grace Hugo Ines Jun Kofi Lena Mika "
         "Nora Omar Paula Quinn Rosa Sven Tara Uma Victor Wanda Yara").split()
LAST = ("Ahmed Berg Costa Diaz Evans Fischer Garcia Haddad Ito Jensen Kumar "
        "Lopez Moreau Novak Okafor Petrov Rossi Silva Tanaka Weber").split()
CITIES = ("Accra Bergen Cork Dakar Essen Florence Ghent Hobart Izmir Jena "
          "Kyoto Lyon Malmo Nantes Oslo Porto Quito Riga Seville Turin").split()
WORDS = ("bright broad calm clean cotton dark durable even fine firm folding "
         "fresh gentle glass hand heavy hinged light linen long matte narrow "
         "oak open plain quiet round rust safe short silver simple slow small "
         "smooth soft solid steel strong thick thin warm waxed wide wool").split()
THINGS = ("basket blanket bottle bowl brush chair clock cup desk frame jar "
          "kettle knife ladder lamp mirror pan plate rack rug scale shelf "
          "spoon stool table tray").split()


def words(rng, n):
    return " ".join(rng.choices(WORDS, k=n))


def customers(rng):
    for i in range(1, N_CUSTOMERS + 1):
        first, last = rng.choice(FIRST), rng.choice(LAST)
        yield (i, f"{first} {last}",
               f"{first}.{last}.{i}@example.com".lower(), rng.choice(CITIES),
               f"20{rng.randrange(10, 26)}-{rng.randrange(1, 13):02}-01")


def products(rng):
    for i in range(1, N_PRODUCTS + 1):
        yield (i, f"{rng.choice(THINGS)[:3].upper()}-{i:05}",
               f"{words(rng, 2)} {rng.choice(THINGS)}".capitalize(),
               words(rng, 60).capitalize() + ".",
               rng.randrange(199, 29_999), rng.randrange(1_000_000))


def orders(rng):
    """(order, its items), in the order they were placed."""
    for i in range(1, N_ORDERS + 1):
        items = []
        for position in range(1, rng.randrange(2, 7)):
            items.append((i, position, rng.randrange(1, N_PRODUCTS + 1),
                          rng.randrange(1, 5), rng.randrange(199, 29_999)))
        total = sum(item[3] * item[4] for item in items)
        day = 3650 * i // N_ORDERS
        placed = (f"{2016 + day // 365}-{day % 365 // 31 + 1:02}-"
                  f"{day % 31 % 28 + 1:02}T{rng.randrange(24):02}:00:00")
        yield ((i, rng.randrange(1, N_CUSTOMERS + 1), placed, words(rng, 12),
                total), items)


def fill(db):
    rng = random.Random(20260413)
    db.executemany("INSERT INTO customers VALUES (?,?,?,?,?)", customers(rng))
    db.executemany("INSERT INTO products VALUES (?,?,?,?,?,?)", products(rng))
    all_items = []

    def placed():
        for order, items in orders(rng):
            all_items.extend(items)
            yield order

    db.executemany("INSERT INTO orders VALUES (?,?,?,?,?)", placed())
    db.executemany("INSERT INTO order_items VALUES (?,?,?,?,?)", all_items)


def make(path):
    """Make the database at path, whole or not at all."""
    unfinished = path + ".new"
    for name in (unfinished, unfinished + "-wal", unfinished + "-shm"):
        if os.path.exists(name):
            os.unlink(name)
    db = sqlite3.connect(unfinished)
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA journal_mode=OFF").fetchall()
    db.executescript(SCHEMA)
    with db:
        fill(db)
    db.executescript(INDEXES)
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.close()
    os.rename(unfinished, path)

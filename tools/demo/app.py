#!/usr/bin/python3
"""The demo's application: it takes orders, some 30 a second, until stopped.

    app.py DATABASE

It knows nothing of backups: one connection, held open from start to end, one
transaction an order.  Once a second it prints what a person may want to see,
`ORDERS ERRORS`: the orders in its database, and the transactions that failed.
"""

import datetime
import random
import signal
import sqlite3
import sys
import time

ORDERS_PER_SECOND = 30


def place_order(db, rng):
    """One order with its items, stock taken, all in one transaction."""
    customers, products = db.execute(
        "SELECT (SELECT max(id) FROM customers), (SELECT max(id) FROM products)"
    ).fetchone()
    now = datetime.datetime.now().isoformat(timespec="seconds")
    with db:
        db.execute("BEGIN IMMEDIATE")
        order = db.execute(
            "INSERT INTO orders(customer_id, placed_at, note, total_cents)"
            " VALUES (?, ?, 'from the demo', 0)",
            (rng.randint(1, customers), now)).lastrowid
        for position in range(1, rng.randint(1, 4) + 1):
            product, quantity = rng.randint(1, products), rng.randint(1, 3)
            db.execute(
                "INSERT INTO order_items SELECT ?, ?, id, ?, price_cents"
                " FROM products WHERE id = ?",
                (order, position, quantity, product))
            db.execute("UPDATE products SET stock = stock - ? WHERE id = ?",
                       (quantity, product))
        db.execute(
            "UPDATE orders SET total_cents = (SELECT sum(quantity *"
            " price_cents) FROM order_items WHERE order_id = orders.id)"
            " WHERE id = ?", (order,))


def run(path):
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.execute("PRAGMA foreign_keys=ON")
    rng = random.Random()
    errors = 0
    told = 0.0
    while True:
        try:
            place_order(db, rng)
        except sqlite3.Error as e:
            errors += 1
            print(f"order failed: {e}", file=sys.stderr)
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            orders = db.execute("SELECT max(id) FROM orders").fetchone()[0]
            print(orders, errors, flush=True)
        time.sleep(1 / ORDERS_PER_SECOND)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: app.py DATABASE")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(sys.argv[1])


main()

"""The application that restores disturb, as a process of its own.

    app.py writer|reader DATABASE SEED

Runs one short autocommit transaction (or read) after the other and notes how
long each took.  Says "ready" after the first; when its input ends it prints
[[start, seconds], …] as JSON, the clock being CLOCK_MONOTONIC, and how many
failed.
"""

import gc
import json
import random
import sys
import threading
import time

import data

WRITE_PAUSE_S = 0.0005
READ_PAUSE_S = 0.002
HOT_ORDERS = 20_000  # the newest orders are the ones that change


def writes(db, rng):
    (last,) = db.execute("SELECT max(id) FROM orders").fetchone()
    hot = min(HOT_ORDERS, last)
    while True:
        db.execute(
            "INSERT INTO log(at, what) VALUES(?, 'order seen')", (time.time(),)
        )
        yield
        db.execute(
            "UPDATE orders SET total_cents = total_cents + 1 WHERE id = ?",
            (last - rng.randrange(hot),),
        )
        yield


def reads(db, rng):
    (last,) = db.execute("SELECT max(id) FROM orders").fetchone()
    hot = min(HOT_ORDERS, last)
    while True:
        db.execute(
            "SELECT o.note, sum(i.price_cents) FROM orders o JOIN items i"
            " ON i.order_id = o.id WHERE o.id = ?",
            (last - rng.randrange(hot),),
        ).fetchone()
        yield


def main():
    kind, path, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    pause = WRITE_PAUSE_S if kind == "writer" else READ_PAUSE_S
    work = writes if kind == "writer" else reads
    ended = threading.Event()
    threading.Thread(
        target=lambda: (sys.stdin.read(), ended.set()), daemon=True
    ).start()
    gc.disable()
    db = data.connect(path)
    ops, failed = [], 0
    todo = work(db, rng)
    while not ended.is_set():
        start = time.monotonic()
        try:
            next(todo)
        except data.sqlite3.Error:
            failed += 1
            todo = work(db, rng)
        ops.append((start, time.monotonic() - start))
        if len(ops) == 1:
            print("ready", flush=True)
        time.sleep(pause)
    db.close()
    json.dump({"ops": ops, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()

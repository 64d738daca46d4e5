"""The server's memory, which must not grow with the database."""

import os

import data
import procs
from figures import Figure, Part, Series

TEXT = """
The peak of the server's resident memory (`VmHWM`, set back before each call),
WAL mode; "with children" is the largest sum of the resident memory of the
server, its helper and the child that checks, looked at every few milliseconds
(what they share is counted more than once). Idle is the server after its start
and a few lists. A restore in which all pages differ leaves a WAL as long as the
database; SQLite maps its index (`-shm`, 8 bytes a page) into the server while
it writes. That restore runs only {few} times at the largest size.
"""

IDLE, CREATE, ONE, ALL = "idle", "create", "restore, 1 % differ", "restore, all differ"
FEW = 2  # restores of everything where they are slow; peaks hardly differ


class Size:
    """What was measured at one size of the database."""

    def __init__(self, label):
        self.label = label
        self.server = {k: self.series(k) for k in (IDLE, CREATE, ONE, ALL)}
        self.tree = {k: self.series(k + ", with children") for k in (CREATE, ONE, ALL)}

    def series(self, what):
        return Series(f"memory, {self.label}, {what}", "MiB", [])

    def all(self):
        return [*self.server.values(), *self.tree.values()]


def watched(server, size, what, call):
    server.reset_peak()
    with procs.TreeMemory(server.process.pid) as tree:
        result = call()
    size.server[what].values.append(server.peak())
    size.tree[what].values.append(tree.peak)
    return result


def idle(bench, server, size):
    for _ in range(bench.runs):
        with server:
            for _ in range(10):
                server.ask("GET", procs.BACKUP)
            size.server[IDLE].values.append(server.peak())


def create_and_restore(bench, server, size):
    """The same backup again and again, 1 % changed in between."""
    path = server.database()
    app = data.connect(path)  # an application that is open but idle
    app.execute("SELECT 1 FROM state").fetchone()
    kept = server.create()
    for _ in range(bench.runs):
        server.delete(watched(server, size, CREATE, server.create))
        data.change(path, 0.01, "changed")
        data.warm(server.backup_path(kept))
        back = watched(server, size, ONE, lambda: server.restore(kept))
        server.delete(back)
    app.close()
    return kept


def restore_all(bench, server, size, kept, n_runs):
    path = server.database()
    other = os.path.join(bench.scratch, "rewritten.db")
    data.rewrite(path, other, "rewritten")
    for _ in range(n_runs):
        data.place(other, path)
        data.set_mode(path, "wal")
        app = data.connect(path)
        app.execute("SELECT 1 FROM state").fetchone()
        server.delete(watched(server, size, ALL, lambda: server.restore(kept)))
        app.close()
    os.unlink(other)


def measure_size(bench, label, n_pages, n_runs):
    size = Size(label)
    server = procs.Holdfast(bench.program, bench.folder("memory"))
    bench.make(server.database(), n_pages)
    data.set_mode(server.database(), "wal")
    idle(bench, server, size)
    with server:
        kept = create_and_restore(bench, server, size)
        restore_all(bench, server, size, kept, n_runs)
    bench.remove("memory")
    shown = ", ".join(f"{k} {s.short()}" for k, s in size.server.items())
    bench.say(f"memory, {label}: {shown}")
    return size


def measure(bench):
    n_runs = (bench.runs, bench.runs, FEW)
    sizes = [measure_size(bench, *s, n) for s, n in zip(bench.memory_sizes(), n_runs)]
    rows = []
    for size in sizes:
        row = [size.label] + [s.short() for s in size.server.values()]
        rows.append(row + [s.short() for s in size.tree.values()])
    _, middle, largest = sizes
    figures = [Figure("memory of the server, idle", middle.server[IDLE], None, 16)]
    for size in (middle, largest):
        for what in (CREATE, ONE, ALL):
            name = f"memory of the server, {size.label}, {what}"
            figures.append(Figure(name, size.server[what], None, 48))
    head = ["database", IDLE, CREATE, ONE, ALL]
    head += [f"{k}, with children" for k in sizes[0].tree]
    series = [s for size in sizes for s in size.all()]
    text = TEXT.strip().format(few=FEW)
    return Part("Memory", text, head, rows, figures, series)

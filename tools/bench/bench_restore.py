"""Restoring under a running application, beside sqlite3_backup."""

import os
import time

import data
import procs
from figures import Figure, Part, Series, number

TEXT = """
An application of one writer (autocommit inserts and updates, one after the
other with half a millisecond between) and two readers runs on the database,
each a process of its own with the system's Python and SQLite; a backup is
restored meanwhile. What counts is the longest time that one transaction, or
one read, took between the beginning of the restore and one second after its
end. Every run begins with a fresh, synced, cached copy of the same live
database. `sqlite3_backup` is one step into the live database by a small program
that uses the same SQLite as Holdfast, asks for the lock every millisecond and
keeps no copy of the state before; Holdfast checks the backup, keeps that copy
and proves it, which makes it the slower of the two from call to answer. The
ways take turns, run by run. Before each restore the application runs for one
second: "quiet" is the longest wait then, what this machine makes it wait
without any restore.
"""

QUIET_S = 1.0
AFTER_S = 1.0
MODES = {"wal": "WAL", "delete": "rollback journal"}
CHANGES = {"1 %": "one", "all": "all"}  # pages that differ: the live file's name
OURS, THEIRS = "Holdfast", "sqlite3_backup"


class Live:
    """The application on the live database while something is measured."""

    def __init__(self, path):
        kinds = ["writer", "reader", "reader"]
        self.parts = []
        try:
            for seed, kind in enumerate(kinds):
                self.parts.append((kind, procs.Application(kind, path, seed)))
        except BaseException:
            self.kill()
            raise

    def kill(self):
        for _, part in self.parts:
            part.kill()

    def end(self):
        """All operations of a kind, and how many failed."""
        ops = {"writer": [], "reader": []}
        failed = 0
        for kind, part in self.parts:
            found, bad = part.end()
            ops[kind] += found
            failed += bad
        return ops, failed


def longest_ms(ops, begin, end):
    """The longest of the operations that ran between begin and end."""
    return 1000 * max((d for s, d in ops if s + d >= begin and s <= end), default=0)


def longest_so_far_ms(ops, begin, end):
    """The same, of what they had taken by the end."""
    so_far = [(s, min(d, end - s)) for s, d in ops if s <= end]
    return longest_ms(so_far, begin, end)


class Case:
    """One journal mode, one share of differing pages, one way."""

    def __init__(self, mode, change, way):
        self.label = f"restore, {mode}, {change} differ, {way}"
        self.way = way
        self.write = self.series("writer's longest wait", "ms")
        self.read = self.series("readers' longest wait", "ms")
        self.quiet_write = self.series("writer's longest wait, quiet", "ms")
        self.quiet_read = self.series("readers' longest wait, quiet", "ms")
        self.rate = self.series("transactions a second, quiet", "/s")
        self.wall = self.series("whole restore", "s")
        self.locked = self.series("lock held, by the log", "ms")
        self.failed = self.series("failed operations of the application", "")

    def series(self, what, unit):
        return Series(f"{self.label}: {what}", unit, [])

    def all(self):
        return [s for s in vars(self).values() if isinstance(s, Series) and s.values]


def restore_once(case, path, restore):
    live = Live(path)
    try:
        began = time.monotonic()
        time.sleep(QUIET_S)
        called = time.monotonic()
        restore()
        answered = time.monotonic()
        time.sleep(AFTER_S)
        ops, failed = live.end()
    finally:
        live.kill()
    writes, reads = ops["writer"], ops["reader"]
    case.write.values.append(longest_ms(writes, called, answered + AFTER_S))
    case.read.values.append(longest_ms(reads, called, answered + AFTER_S))
    case.quiet_write.values.append(longest_so_far_ms(writes, began, called))
    case.quiet_read.values.append(longest_so_far_ms(reads, began, called))
    done = sum(began <= s and s + d <= called for s, d in writes)
    case.rate.values.append(done / (called - began))
    case.wall.values.append(answered - called)
    case.failed.values.append(failed)


def run_case(bench, server, case, mode, source, backup):
    path = server.database()
    data.place(source, path)
    data.set_mode(path, mode)
    data.warm(path)
    data.warm(server.backup_path(backup))
    bench.settle()
    if case.way == OURS:
        safety = []
        restore_once(case, path, lambda: safety.append(server.restore(backup)))
        case.locked.values.append(server.locked_ms())
        server.delete(safety[0])
    else:
        argv = [bench.helper(), path, server.backup_path(backup)]
        restore_once(case, path, lambda: procs.run_timed(argv))
    if data.state(path) != "backup":
        raise procs.Failed(f"{case.label}: the database was not restored")
    bench.say(
        f"{case.label}: writer {case.write.values[-1]:.0f} ms,"
        f" readers {case.read.values[-1]:.0f} ms, {case.wall.values[-1]:.1f} s"
    )


def prepare(bench, server):
    """The backup, and the live databases that differ from it."""
    data.place(bench.base(), server.database())
    backup = server.create()
    sources = {}
    for change, name in CHANGES.items():
        sources[change] = os.path.join(bench.scratch, f"live-{name}.db")
    data.place(bench.base(), sources["1 %"])
    data.change(sources["1 %"], 0.01, "changed")
    data.sync(sources["1 %"])
    data.rewrite(bench.base(), sources["all"], "rewritten")
    kept = server.backup_path(backup)
    shares = {c: data.differing(kept, s) for c, s in sources.items()}
    return backup, sources, shares


def row(mode, change, share, case, other):
    ratio = f"{case.write.median / other.write.median:.3f}"
    return [
        MODES[mode],
        f"{change} ({100 * share:.1f} %)",
        case.way,
        case.write.text(),
        ratio,
        case.read.text(),
        f"{number(case.quiet_write.median, 'ms')} / "
        f"{number(case.quiet_read.median, 'ms')} ms",
        case.wall.short(),
    ]


def measure(bench):
    cases = {
        (m, c, w): Case(m, c, w) for m in MODES for c in CHANGES for w in (OURS, THEIRS)
    }
    with procs.Holdfast(bench.program, bench.folder("restore")) as server:
        backup, sources, shares = prepare(bench, server)
        for _ in range(bench.runs):
            for (mode, change, _), case in cases.items():
                run_case(bench, server, case, mode, sources[change], backup)
    bench.remove("restore")
    for source in sources.values():
        os.unlink(source)
    rows, figures = [], []
    for (mode, change, way), case in cases.items():
        other = cases[mode, change, THEIRS]
        rows.append(row(mode, change, shares[change], case, other))
        if way == THEIRS:
            continue
        bound = {"wal": 0.05, "delete": 0.3}[mode] if change == "1 %" else 1.1
        what = f"restore, {change} of the pages differ, {MODES[mode]}: writer's"
        ours = Series(OURS, "ms", case.write.values)
        theirs = Series(THEIRS, "ms", other.write.values)
        figures.append(Figure(what + " longest wait", ours, theirs, bound))
        if mode == "wal":
            what = f"restore, {change} of the pages differ, WAL: readers'"
            figures.append(Figure(what + " longest wait", case.read, None, 20))
    head = ["journal mode", "pages that differ", "way", "writer's longest wait"]
    head += ["÷ sqlite3_backup", "readers' longest wait", "quiet: writer / readers"]
    head += ["call to answer"]
    failed = sum(sum(c.failed.values) for c in cases.values())
    rates = [v for c in cases.values() for v in c.rate.values]
    text = TEXT.strip() + (
        f"\n\nThe writer committed {min(rates):.0f} to {max(rates):.0f} transactions"
        f" a second before the restores. Transactions and reads that failed:"
        f" {failed:.0f}."
    )
    series = [s for case in cases.values() for s in case.all()]
    return Part("Restoring", text, head, rows, figures, series)

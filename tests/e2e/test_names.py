"""Names: one second each, in the order of the copies, whatever the clock does.

A request that lands on a taken second waits for the next (the test build
moves its clock instead); a clock that stands behind gives newest + 1 s; a
restart forgets nothing; requests that wait together share one copy, and a
request that comes after an answer never gets that answer's copy.
"""

import calendar
import threading
import time

import dbfile
from server import BACKUP, wait_for


def second_of(filename):
    return calendar.timegm(time.strptime(filename, "app_%Y%m%d_%H%M%S.db"))


def create_many(server, n):
    """n POSTs at once, each on a thread; their bodies."""
    bodies = []
    threads = [
        threading.Thread(target=lambda: bodies.append(server.create()))
        for _ in range(n)
    ]
    for thread in threads:
        thread.start()
    return threads, bodies


def test_sequential_requests_get_names_of_their_own_in_order(server):
    names = [server.create()["filename"] for _ in range(40)]
    assert names == sorted(set(names))
    assert server.backups() == names[::-1]


def test_taken_second_waits_for_the_next(server):
    first = second_of(server.create()["filename"])
    second = second_of(server.create()["filename"])
    assert second == first + 1 or second - first <= 2


def test_names_are_utc_seconds_of_the_clock(server):
    server.set_clock(86400)
    before = int(time.time()) + 86400
    name = server.create()["filename"]
    assert before <= second_of(name) <= int(time.time()) + server.clock_offset()


def test_clock_that_steps_back_gives_newest_plus_one(server):
    newest = second_of(server.create()["filename"])
    for step in (-60, -3600, -86400 * 400):
        server.set_clock(step)
        offset = server.clock_offset()
        name = server.create()["filename"]
        assert second_of(name) == newest + 1
        assert server.clock_offset() == offset, "it waited for a clock that is behind"
        newest += 1
    assert server.backups() == sorted(server.backups(), reverse=True)


def test_clock_that_steps_forward_is_followed(server):
    server.create()
    server.set_clock(86400 * 3)
    forward = second_of(server.create()["filename"])
    assert forward >= int(time.time()) + 86400 * 3 - 5
    server.set_clock(0)
    assert second_of(server.create()["filename"]) == forward + 1


def test_deleted_newest_name_is_not_used_again_at_once(server):
    name = server.create()["filename"]
    server.remove(name)
    assert server.create()["filename"] > name


def test_restart_in_the_same_second_takes_another_name(server):
    names = [server.create()["filename"]]
    for _ in range(4):
        server.set_clock(second_of(names[-1]) - int(time.time()))
        server.stop()
        server.start()
        names.append(server.create()["filename"])
    assert names == sorted(set(names))


def test_names_outlive_kill_in_the_same_second(server):
    names = [server.create()["filename"]]
    for _ in range(3):
        server.set_clock(second_of(names[-1]) - int(time.time()))
        server.kill()
        server.start()
        names.append(server.create()["filename"])
    assert names == sorted(set(names)) and server.backups() == names[::-1]


def test_created_at_is_the_same_in_every_call(server):
    entry = server.create()
    listed = server.get(BACKUP).json()["backups"][0]
    details = server.details(entry["filename"])
    rich = server.get("/api/v1/databases/default/backups").json()["backups"][0]
    assert (
        entry["created_at"]
        == listed["created_at"]
        == details["created_at"]
        == rich["created_at"]
    )


def test_safety_backup_has_a_name_of_its_own(server):
    name = server.create()["filename"]
    safety = [server.restore(name) for _ in range(5)]
    assert [name, *safety] == sorted({name, *safety})


def test_waiting_requests_share_a_copy(servers, shells, base):
    """While the application's lock holds the first copy up, more come."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    server.start()
    before = server.create()["filename"]
    application = shells(live)
    application.sql("BEGIN EXCLUSIVE")
    threads, bodies = create_many(server, 30)
    wait_for(lambda: connections(server) >= 30, "30 connections")
    application.sql("INSERT INTO item(text) VALUES('while they wait')")
    application.sql("COMMIT")
    for thread in threads:
        thread.join()
    names = {body["filename"] for body in bodies}
    assert len(bodies) == 30 and 1 <= len(names) <= 3
    assert before not in names
    assert set(server.backups()) == names | {before}


def connections(server):
    """How many established connections the server's process holds."""
    return sum(target.startswith("socket:") for target in server.descriptors())


def test_requests_at_the_same_time_all_get_listed_copies(server):
    threads, bodies = create_many(server, 20)
    for thread in threads:
        thread.join()
    assert {body["filename"] for body in bodies} == set(server.backups())


def test_databases_name_independently(server):
    for name in ("a", "b"):
        assert server.post("/api/v1/databases", {"name": name}).status == 201
    server.set_clock(1000)
    for name in ("a", "b", None):
        server.create(name)
    assert len(server.backups("a")) == len(server.backups("b")) == 1

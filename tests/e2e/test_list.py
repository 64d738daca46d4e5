"""The list is right, and quick, at ten thousand backups."""

import shutil

import dbfile
from server import BACKUP, DATABASES, wait_for

MANY = 10000


def many(server, source, n):
    """n backups that were there already, as links to one file each."""
    folder = server.folder()
    folder.mkdir(parents=True, mode=0o700)
    names = []
    for i in range(n):
        name = f"app_2020{i // 2800 + 1:02}{i // 100 % 28 + 1:02}_{i % 100 // 60:02}"
        name += f"{i % 60:02}00.db"
        shutil.copyfile(source, folder / name)
        names.append(name)
    return sorted(names, reverse=True)


def test_ten_thousand_backups_are_listed_newest_first(servers, base):
    server = servers()
    server.prepare(dbfile.make(base / "x.db"))
    source = dbfile.make(base / "y.db", rows=3, page_size=512, journal="delete")
    names = many(server, source, MANY)
    server.start()
    entries = server.get(BACKUP).json()["backups"]
    assert [entry["filename"] for entry in entries] == names
    assert {entry["size"] for entry in entries} == {source.stat().st_size}
    made = server.create()["filename"]
    assert server.backups() == [made, *names]
    server.remove(names[0])
    assert server.backups() == [made, *names[1:]]
    page = server.get(f"{DATABASES}/default/backups?limit=1000").json()["backups"]
    assert [entry["filename"] for entry in page] == [made, *names[1:1000]]


def test_list_follows_what_others_do_in_the_folder(server, base):
    """Files that appear or go by other hands are seen by the next call."""
    first = server.create()["filename"]
    copy = "app_20200101_000000.db"
    shutil.copy(server.backup_path(first), server.backup_path(copy))
    wait_for(lambda: server.backups() == [first, copy], "the new file to be listed")
    server.backup_path(copy).unlink()
    wait_for(lambda: server.backups() == [first], "the file to be gone")

"""P7: whatever happens to a stored backup is found, by name and with a reason.

Bits that flip in a backup or in its facts, files that are cut, extended,
swapped or replaced.  Verify tells, restore refuses before it touches the live
database (same inode, same time, same bytes), and the controls show what less
would have found: a check of the structure, and a parser of the facts.
"""

import json
import os
import random
import shutil

import pytest

import dbfile
from server import BACKUP, DATABASES

DATA_FLIPS = 400
FACTS_FLIPS = 100
RESTORES = 200  # beside each byte of the header
CONTROLS = 60


class Specimen:
    """One good backup, that can be damaged again and again."""

    def __init__(self, server):
        self.server = server
        self.name = server.create()["filename"]
        self.path = server.backup_path(self.name)
        self.facts = self.path.with_suffix(".json")
        self.good_bytes = self.path.read_bytes()
        self.good_facts = self.facts.read_bytes()
        self.url = f"{BACKUP}/{self.name}"

    def heal(self):
        """Put everything back, wherever it has gone to."""
        for path in (self.path, self.facts):
            aside = path.parent / "suspect" / path.name
            aside.unlink(missing_ok=True)
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        self.path.write_bytes(self.good_bytes)
        self.facts.write_bytes(self.good_facts)

    def flip(self, path, bit):
        dbfile.flip(path, bit // 8, bit % 8)

    def assert_told_by_verify(self, what):
        """Verify answers that it is damaged, and why; so do the details."""
        body = self.server.post(self.url + "/verify").json()
        assert (body["filename"], body["state"]) == (self.name, "suspect"), what
        assert body["proof"]["result"] == "damaged", what
        assert body["proof"]["problem"], what
        assert self.server.details(self.name)["state"] == "suspect", what
        return body["proof"]

    def assert_refused_by_restore(self, live, before, what):
        response = self.server.post(self.url + "/restore")
        assert (response.status, response.error) == (422, "OPERATION_FAILED"), what
        assert self.name in response.json()["message"], what
        assert dbfile.state_of(live) == before, what


@pytest.fixture
def large(in_memory):
    """A backup of more than a MiB, most of it in values."""
    sql = """
        CREATE TABLE paper(data BLOB);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400)
        INSERT INTO paper SELECT randomblob(3000) FROM n;
    """
    in_memory.prepare(dbfile.make(in_memory.base / "x.db", rows=20, sql=sql))
    specimen = Specimen(in_memory)
    assert len(specimen.good_bytes) > 1 << 20
    return specimen


def test_every_flipped_bit_of_a_backup_is_found(large, seed, report):
    rng = random.Random(seed)
    bits = rng.sample(range(8 * len(large.good_bytes)), DATA_FLIPS - 2)
    for bit in [0, 8 * len(large.good_bytes) - 1, *bits]:
        large.flip(large.path, bit)
        proof = large.assert_told_by_verify(f"bit {bit}")
        assert proof["checked"] == "sha256" and "SHA-256" in proof["problem"]
        assert large.name not in large.server.backups()
        large.heal()
    report(f"P7: {DATA_FLIPS} of {DATA_FLIPS} flipped bits of a backup found")
    assert large.server.post(large.url + "/verify").json()["state"] == "good"


def test_control_structure_alone_misses_flipped_bits(large, seed, report):
    rng = random.Random(seed)
    found = 0
    for bit in rng.sample(range(8 * len(large.good_bytes)), CONTROLS):
        large.flip(large.path, bit)
        found += dbfile.integrity(large.path, readonly=True) != "ok"
        large.flip(large.path, bit)
    report(f"P7 control: of {CONTROLS} flipped bits integrity_check found {found}")
    assert found < CONTROLS


def test_every_flipped_bit_of_the_facts_is_found(server, seed, report):
    specimen, live = Specimen(server), server.live()
    before = dbfile.state_of(live)
    rng = random.Random(seed)
    for bit in rng.sample(range(8 * len(specimen.good_facts)), FACTS_FLIPS):
        specimen.flip(specimen.facts, bit)
        proof = specimen.assert_told_by_verify(f"bit {bit}")
        assert proof["checked"] == "facts" and "facts" in proof["problem"]
        specimen.assert_refused_by_restore(live, before, f"bit {bit}")
        assert server.get(specimen.url + "/download").status == 422
        assert rich(server)[specimen.name] == "suspect"
        assert server.backups() == []
        specimen.heal()
    report(f"P7: {FACTS_FLIPS} of {FACTS_FLIPS} flipped bits of the facts found")


def rich(server):
    body = server.get(f"{DATABASES}/default/backups").json()
    return {entry["filename"]: entry["state"] for entry in body["backups"]}


def test_control_a_parser_misses_flipped_bits_of_the_facts(server, seed, report):
    specimen = Specimen(server)
    keys = list(json.loads(specimen.good_facts))
    rng = random.Random(seed)
    missed = 0
    for bit in rng.sample(range(8 * len(specimen.good_facts)), FACTS_FLIPS):
        text = bytearray(specimen.good_facts)
        text[bit // 8] ^= 1 << bit % 8
        try:
            missed += list(json.loads(text)) == keys
        except ValueError:
            pass
    report(f"P7 control: of {FACTS_FLIPS} flipped bits a parser missed {missed}")
    assert missed


def flipped_and_restored(specimen, bits):
    live = specimen.server.live()
    before = dbfile.state_of(live)
    for bit in bits:
        specimen.flip(specimen.path, bit)
        specimen.assert_refused_by_restore(live, before, f"bit {bit}")
        assert specimen.server.backups() == []
        specimen.heal()
    return len(bits)


def test_no_flipped_byte_is_restored(in_memory, seed, report):
    """Each byte of the header, and some of the rest."""
    in_memory.prepare(dbfile.make(in_memory.base / "x.db"))
    specimen = Specimen(in_memory)
    rng = random.Random(seed)
    offsets = rng.sample(range(100, len(specimen.good_bytes)), RESTORES)
    bits = [8 * i + rng.randrange(8) for i in [*range(100), *offsets]]
    n = flipped_and_restored(specimen, bits)
    report(f"P7: {n} of {n} restores of a flipped byte refused, live file untouched")


@pytest.mark.soak
def test_no_byte_of_a_backup_may_flip(in_memory, seed, report):
    """Every byte of a small backup."""
    in_memory.prepare(dbfile.make(in_memory.base / "x.db", rows=60, page_size=512))
    specimen = Specimen(in_memory)
    rng = random.Random(seed)
    n = len(specimen.good_bytes)
    n = flipped_and_restored(specimen, [8 * i + rng.randrange(8) for i in range(n)])
    report(f"Soak, P7: {n} of {n} bytes of a backup flipped, none restored")


# ---- files cut, extended, swapped, replaced ----


def data(content):
    return lambda s, other: s.path.write_bytes(content(s, other))


def facts(content):
    return lambda s, other: s.facts.write_bytes(content(s, other))


def grown(n):
    return data(lambda s, other: s.good_bytes + s.good_bytes[:n])


def cut(n):
    return data(lambda s, other: s.good_bytes[:-n])


def swap(specimen, other):
    other.path.rename(aside := specimen.path.with_name("aside"))
    specimen.path.rename(other.path)
    aside.rename(specimen.path)


def replace_by_other(specimen, other):
    """Another whole database of the very same length."""
    assert len(other.good_bytes) == len(specimen.good_bytes)
    specimen.path.write_bytes(other.good_bytes)


def page_of_other(specimen, other):
    """One page of another backup, at its own place: sound, but not the same."""
    pages = len(specimen.good_bytes) // 4096
    changed = [
        i
        for i in range(1, pages)
        if specimen.good_bytes[i * 4096 :][:4096] != other.good_bytes[i * 4096 :][:4096]
    ]
    with open(specimen.path, "r+b") as file:
        file.seek(changed[0] * 4096)
        file.write(other.good_bytes[changed[0] * 4096 :][:4096])


def two_pages_swapped(specimen, other):
    with open(specimen.path, "r+b") as file:
        file.seek(4096)
        file.write(specimen.good_bytes[8192:12288] + specimen.good_bytes[4096:8192])


def with_field(old, new):
    def change(specimen, other):
        assert specimen.good_facts.count(old) >= 1
        return specimen.good_facts.replace(old, new)

    return facts(change)


def as_folder(specimen, other):
    specimen.path.unlink()
    specimen.path.mkdir()


def as_link(specimen, other):
    specimen.path.unlink()
    specimen.path.symlink_to(other.path)


def as_fifo(specimen, other):
    specimen.path.unlink()
    os.mkfifo(specimen.path)


# What is done to a backup, and what the reason must speak of.
MUTILATIONS = {
    "a byte more": (grown(1), "bytes"),
    "a page more": (grown(4096), "bytes"),
    "a byte less": (cut(1), "bytes"),
    "a page less": (cut(4096), "bytes"),
    "half": (data(lambda s, o: s.good_bytes[: len(s.good_bytes) // 2]), "bytes"),
    "empty": (data(lambda s, o: b""), "bytes"),
    "zeros": (data(lambda s, o: bytes(len(s.good_bytes))), "SHA-256"),
    "swapped with another": (swap, "SHA-256"),
    "replaced by another": (replace_by_other, "SHA-256"),
    "a page of another": (page_of_other, "SHA-256"),
    "two pages swapped": (two_pages_swapped, "SHA-256"),
    "facts of another": (facts(lambda s, o: o.good_facts), "facts"),
    "facts cut": (facts(lambda s, o: s.good_facts[:200]), "facts"),
    "facts empty": (facts(lambda s, o: b""), "facts"),
    "facts garbage": (facts(lambda s, o: random.Random(1).randbytes(700)), "facts"),
    "facts endless": (facts(lambda s, o: b"[" * 200000), "facts"),
    "facts twice": (facts(lambda s, o: 2 * s.good_facts), "facts"),
    "facts say another size": (with_field(b'"size":', b'"size":1'), "facts"),
    "facts say pinned": (with_field(b'"pin":false', b'"pin":true'), "facts"),
    "facts have a note": (with_field(b'"note":null', b'"note":"x"'), "facts"),
    "facts without checksum": (
        facts(lambda s, o: s.good_facts[: s.good_facts.index(b',"check"')] + b"}\n"),
        "facts",
    ),
}
NOT_A_FILE = {
    "gone": lambda s, o: s.path.unlink(),
    "a folder": as_folder,
    "a symbolic link": as_link,
    "a FIFO": as_fifo,
}


@pytest.fixture
def pair(server):
    """Two backups of one database, of the same length."""
    first = Specimen(server)
    dbfile.execute(
        server.live(), "UPDATE item SET text='9'||substr(text, 2) WHERE id<4"
    )
    return first, Specimen(server)


def test_every_mutilation_is_found(pair, report):
    specimen, other = pair
    live = specimen.server.live()
    before = dbfile.state_of(live)
    for what, (mutilate, reason) in MUTILATIONS.items():
        mutilate(specimen, other)
        proof = specimen.assert_told_by_verify(what)
        assert reason in proof["problem"], (what, proof)
        specimen.heal()
        other.heal()
        mutilate(specimen, other)
        specimen.assert_refused_by_restore(live, before, what)
        specimen.heal()
        other.heal()
    for what, mutilate in NOT_A_FILE.items():
        mutilate(specimen, other)
        for call in ("/verify", "/restore"):
            response = specimen.server.post(specimen.url + call)
            assert response.status == 404 and specimen.name in str(response), what
        assert specimen.server.backups() == [other.name], what
        assert dbfile.state_of(live) == before, what
        specimen.heal()
    n = len(MUTILATIONS) + len(NOT_A_FILE)
    report(f"P7: {n} of {n} mutilations of a backup found, none restored")
    for each in pair:
        assert each.server.post(each.url + "/verify").json()["state"] == "good"


def test_a_backup_with_damaged_facts_can_be_rescued(server):
    """Its bytes may be good: they are kept, for whoever asks for them."""
    specimens = [Specimen(server) for _ in range(4)]
    for specimen in specimens:
        specimen.facts.write_bytes(specimen.good_facts[:-40])
        assert rich(server)[specimen.name] == "suspect"
        specimen.assert_told_by_verify(specimen.name)
    assert server.backups() == []
    for specimen in specimens:
        response = server.get(specimen.url + "/download?suspect=true")
        assert response.status == 200 and response.body == specimen.good_bytes
        server.remove(specimen.name)
    assert rich(server) == {}


def test_a_backup_without_facts_is_told_to_be_unproven(server):
    """It counts as one that somebody put there: no digest, no proof."""
    specimen = Specimen(server)
    specimen.facts.unlink()
    details = server.details(specimen.name)
    assert (details["origin"], details["sha256"]) == ("adopted", None)
    assert details["proof"] is None


def test_control_a_copy_of_both_files_is_good(pair):
    """What the mutilations find is the damage, not the handling of files."""
    specimen, other = pair
    for path in (specimen.path, specimen.facts):
        shutil.copy(path, path.with_name("copy"))
        path.unlink()
        path.with_name("copy").rename(path)
    assert specimen.server.post(specimen.url + "/verify").json()["state"] == "good"
    assert specimen.server.restore(specimen.name)

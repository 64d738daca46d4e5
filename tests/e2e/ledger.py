"""What restores did to the commits of an application: nothing lost (P4).

Between two restores each writer's commits form an *era*.  With S(i) the
safety backup of restore i, R(i) the backup that it restored, and the last S
being the live database at the end, a writer's part of S(i) must be that of
R(i-1) and the commits of one era; the eras must follow each other without a
gap or an overlap, from the first commit to the last acknowledged one.
"""

import dbfile


def journal(path, readonly=True):
    """For each writer the set of commit numbers in a database file."""
    found = {}
    rows = dbfile.query(path, "SELECT writer, seq FROM journal", readonly)
    for number, seq in rows:
        found.setdefault(number, set()).add(seq)
    return found


def is_balanced(path, total):
    sql = "SELECT sum(balance) FROM account NOT INDEXED"
    return dbfile.query(path, sql, readonly=True)[0][0] == total


class Ledger:
    """The restores of one run, in their order, and the check over them."""

    def __init__(self, n_writers):
        self.n_writers = n_writers
        self.restored = [{}]  # R, beginning with the empty bank
        self.kept = []  # S
        self.windows = []  # acknowledged before the request, after the answer
        self.first = [0] * n_writers

    def begin(self, live, acked):
        """Begin with this live journal instead, at rest after these commits."""
        self.restored = [live]
        self.first = list(acked)

    def add(self, restored, safety, before, after):
        """Note one restore: the journals of two files, and two counts."""
        self.restored.append(restored)
        self.kept.append(safety)
        self.windows.append((before, after))

    def close(self, live, acked):
        """Note the end: the live journal and the last counts."""
        self.kept.append(live)
        self.windows.append((acked, acked))

    def count(self):
        """{"lost": acknowledged commits in neither, "gaps": broken eras}."""
        lost = gaps = 0
        for number in range(self.n_writers):
            lost += self.count_lost(number)
            gaps += self.count_gaps(number)
        return {"lost": lost, "gaps": gaps}

    def count_lost(self, number):
        lost, answered = 0, self.first[number]
        for i, (before, after) in enumerate(self.windows):
            kept = self.kept[i].get(number, set())
            later = kept
            if i + 1 < len(self.kept):
                later = kept | self.kept[i + 1].get(number, set())
            told = range(answered + 1, before[number] + 1)
            during = range(max(answered, before[number]) + 1, after[number] + 1)
            lost += sum(seq not in kept for seq in told)
            lost += sum(seq not in later for seq in during)
            answered = after[number]
        return lost

    def count_gaps(self, number):
        gaps, last = 0, self.first[number]
        for restored, kept in zip(self.restored, self.kept):
            old = restored.get(number, set())
            new = kept.get(number, set())
            era = sorted(new - old)
            whole = old <= new and era == list(range(last + 1, last + 1 + len(era)))
            gaps += not whole
            last = max([last, *era])
        return gaps + (last < self.windows[-1][1][number])

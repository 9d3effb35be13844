"""SQLite from Python: the record as JSON text, beside it the columns that are searched, indexed.

Pages are parsed by orjson. WAL, `synchronous = FULL`: every commit is durable. A record is known
by the hash of its text as orjson writes it; where that differs, its fields are compared one by
one, and each difference is a row of `changelog`. What is deleted moves to `tombstones`.
"""

import gc
import glob
import hashlib
import json
import os
import sqlite3
import sys
import time

import orjson

import common

# Columns beside the text, with the field each holds.
COLUMNS = [
    ("status", "StandardStatus"),
    ("city", "City"),
    ("price", "ListPrice"),
    ("modified", "ModificationTimestamp"),
    ("listed", "ListingContractDate"),
]
# Records a transaction, as Relist has them.
BATCH = 20_000


def connect(path):
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("pragma journal_mode = wal")
    con.execute("pragma synchronous = full")
    con.execute("pragma cache_size = -262144")
    con.execute("pragma mmap_size = 8589934592")
    return con


def create(con):
    columns = ", ".join(name for name, _ in COLUMNS)
    con.execute(f"create table records (key integer primary key, hash blob, {columns}, body text)")
    con.execute("create index by_place on records (city, status, price)")
    con.execute("create index by_time on records (modified)")
    con.execute("create index by_status on records (status, listed)")
    con.execute(
        "create table changelog (step integer, observed integer, key integer, operation text,"
        " field text, previous text, new text)"
    )
    con.execute("create index changes_by_field on changelog (field, observed)")
    con.execute("create index changes_by_key on changelog (key, observed)")
    con.execute(
        "create table tombstones (key integer, step integer, observed integer, body text)"
    )
    con.execute("create table steps (step integer, observed integer)")


class Loader:
    def __init__(self, con, meter, key_field):
        self.con = con
        self.meter = meter
        self.key_field = key_field
        self.hashes = dict(con.execute("select key, hash from records"))
        self.counts = dict.fromkeys(
            ["records", "inserted", "unchanged", "field_changes", "deleted"], 0
        )
        marks = ", ".join("?" * (len(COLUMNS) + 3))
        self.insert = f"insert or replace into records values ({marks})"

    def step(self, folder, step):
        pages = sorted(glob.glob(os.path.join(folder, "*.json")))
        batch, begun = [], time.perf_counter()
        for page in pages:
            with open(page, "rb") as file:
                batch += orjson.loads(file.read())["value"]
            if len(batch) >= BATCH or page == pages[-1]:
                self.transaction(lambda batch=batch: self.apply(batch, step), begun)
                batch, begun = [], time.perf_counter()
        if common.has_deletions(folder):
            self.transaction(lambda: self.delete(folder, step), time.perf_counter())

    def transaction(self, work, begun):
        self.con.execute("begin")
        work()
        self.con.execute("commit")
        self.meter.commits.append(time.perf_counter() - begun)

    def apply(self, batch, step):
        rows, log, rehash = [], [], []
        at, observed = step["at"], step["observed"]
        for record in batch:
            text = orjson.dumps(record)
            digest = hashlib.blake2b(text, digest_size=16).digest()
            key = record[self.key_field]
            known = self.hashes.get(key)
            self.hashes[key] = digest
            self.counts["records"] += 1
            if known == digest:
                self.counts["unchanged"] += 1
                continue
            row = (key, digest, *(record.get(field) for _, field in COLUMNS), text.decode())
            if known is None:
                self.counts["inserted"] += 1
                if at > 0:
                    log.append((at, observed, key, "insert", None, None, None))
                rows.append(row)
                continue
            changed = self.differences(key, record, at, observed, log)
            self.counts["field_changes"] += changed
            if changed:
                rows.append(row)
            else:
                self.counts["unchanged"] += 1
                rehash.append((digest, key))
        self.con.executemany(self.insert, rows)
        self.con.executemany("insert into changelog values (?, ?, ?, ?, ?, ?, ?)", log)
        self.con.executemany("update records set hash = ? where key = ?", rehash)

    def differences(self, key, record, at, observed, log):
        found = self.con.execute("select body from records where key = ?", (key,)).fetchone()
        before = orjson.loads(found[0])
        count = 0
        for field, new in record.items():
            if field.startswith("@"):
                continue
            previous = before.get(field)
            if previous != new:
                values = (json.dumps(previous), json.dumps(new))
                log.append((at, observed, key, "update", field, *values))
                count += 1
        return count

    def delete(self, folder, step):
        at, observed = step["at"], step["observed"]
        for page in sorted(glob.glob(os.path.join(folder, "deleted", "*.json"))):
            with open(page, "rb") as file:
                gone = orjson.loads(file.read())["value"]
            for row in gone:
                key = int(row["primary_key"])
                if self.hashes.pop(key, None) is None:
                    continue
                self.con.execute(
                    "insert into tombstones select key, ?, ?, body from records where key = ?",
                    (at, observed, key),
                )
                self.con.execute("delete from records where key = ?", (key,))
                self.con.execute(
                    "insert into changelog values (?, ?, ?, 'delete', null, null, null)",
                    (at, observed, key),
                )
                self.counts["deleted"] += 1


def load(folder, path, wave):
    data = common.workload(folder)
    gc.disable()
    meter = common.Meter()
    fresh = not os.path.exists(path)
    con = connect(path)
    if fresh:
        create(con)
    loader = Loader(con, meter, data["key"])
    for step in common.steps(data, wave):
        loader.step(os.path.join(folder, step["folder"]), step)
        con.execute("insert into steps values (?, ?)", (step["at"], step["observed"]))
    counts = loader.counts
    counts["live"] = con.execute("select count(*) from records").fetchone()[0]
    con.execute("pragma wal_checkpoint(truncate)")
    con.close()
    return meter.result(counts, [path, path + "-wal"], sqlite3.sqlite_version)


def changes(path, out):
    con = connect(path)
    rows = con.execute("select step, key, operation, field, previous, new from changelog")
    for step, key, operation, field, previous, new in rows:
        name = "null" if field is None else json.dumps(field)
        values = f"{previous or 'null'},{new or 'null'}"
        out.write(f'[{step},{key},"{operation}",{name},{values}]\n')


def query(path):
    sys.exit("not yet")


if __name__ == "__main__":
    common.main(load, changes, query)

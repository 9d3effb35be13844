"""SQLite from Python: the record as JSON text, beside it the columns that are searched, indexed.

Pages are parsed by orjson. WAL, `synchronous = FULL`: every commit is durable. A record is known
by the hash of its text as orjson writes it; where that differs, its fields are compared one by
one, and each difference is a row of `changelog`. What is deleted moves to `tombstones`.
"""

import gc
import glob
import hashlib
import itertools
import json
import os
import sqlite3
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


PLACE = "where city = :city and status = 'Active' and price between :low and :high"
NEWEST = "select body from records order by modified desc, key limit 100"
AVERAGE = "select city, avg(price) from records where status = 'Active' group by city"
FIELDS = [
    "ListingKeyNumeric",
    "ListingId",
    "StandardStatus",
    "ListPrice",
    "City",
    "PostalCode",
    "BedroomsTotal",
    "BathroomsTotalInteger",
    "LivingArea",
    "UnparsedAddress",
    "ModificationTimestamp",
]
# What came after is undone: a record's own first change of status, its deletion, its entry. The
# bare columns beside min() are of the row that has it.
PAST_STATUSES = """
with life as materialized (
  select key, operation as first, min(step) as step from changelog
  where field is null and observed > :since group by key),
moved as materialized (
  select key, json_extract(previous, '$') as previous, min(step) as step from changelog
  where field = 'StandardStatus' and observed > :since group by key)
select status, count(*) from (
  select coalesce(m.previous, r.status) as status from records r
    left join life l on l.key = r.key left join moved m on m.key = r.key
  where l.first is null
  union all
  select case when m.step <= l.step then m.previous
    else json_extract(t.body, '$.StandardStatus') end
  from life l join tombstones t on t.key = l.key and t.step = l.step
    left join moved m on m.key = l.key
  where l.first = 'delete')
group by status
"""


def bodies(found):
    return [orjson.loads(body) for (body,) in found]


def named(*names):
    return lambda found: [dict(zip(names, row)) for row in found]


def some(found):
    return [{name: record.get(name) for name in FIELDS} for record in bodies(found)]


def months(found):
    return [
        {"StandardStatus": s, "Year": int(m[:4]), "Month": int(m[5:]), "Count": n}
        for s, m, n in found
    ]


def cuts(found):
    return [{"Key": k, "Previous": float(p), "New": float(n)} for k, p, n in found]


# SQL, and how its rows are written as JSON.
QUERIES = {
    "get": ("select body from records where key = :key", bodies),
    "place_keys": (f"select key from records {PLACE}", named("ListingKeyNumeric")),
    "place_records": (f"select body from records {PLACE}", bodies),
    "newest_fields": (NEWEST, some),
    "newest_records": (NEWEST, bodies),
    "average": (AVERAGE, named("City", "Price")),
    "months": (
        "select status, substr(listed, 1, 7) as month, count(*) from records group by 1, 2",
        months,
    ),
    "cuts": (
        "select key, previous, new from changelog where field = 'ListPrice'"
        " and observed > :since and cast(new as real) < cast(previous as real) * 0.95",
        cuts,
    ),
    "past_statuses": (PAST_STATUSES, named("StandardStatus", "Count")),
    "text": (
        "select count(*) from records where instr(body, :word)"
        " and instr(json_extract(body, '$.PublicRemarks'), :word)",
        named("Count"),
    ),
}


def prepared(con, sql, answer):
    def given(values):
        used = {name: value for name, value in values.items() if f":{name}" in sql}
        return lambda: con.execute(sql, used).fetchall(), answer

    return given


def median(con):
    """SQLite has no median: the prices come in order, and the middle is taken here."""
    sql = "select city, price from records where status = 'Active' order by city, price"

    def ask():
        out = []
        for city, rows in itertools.groupby(con.execute(sql), key=lambda row: row[0]):
            prices = [row[1] for row in rows]
            half = len(prices) // 2
            middle = prices[half] if len(prices) % 2 else (prices[half - 1] + prices[half]) / 2
            out.append((city, middle))
        return out

    return lambda values: (ask, named("City", "Price"))


def past_record(con):
    """The record with what came after undone, the last change first."""

    def given(values):
        key, since = values["key"], values["since"]

        def ask():
            body = con.execute("select body from records where key = ?", (key,)).fetchone()
            later = con.execute(
                "select field, previous from changelog where key = ? and observed > ?"
                " order by observed desc",
                (key, since),
            )
            record = orjson.loads(body[0])
            for field, previous in later:
                record[field] = orjson.loads(previous)
            return [record]

        return ask, lambda found: found

    return given


def reading(path):
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("pragma cache_size = -1048576")
    con.execute("pragma mmap_size = 8589934592")
    return con


def query(path):
    con = reading(path)
    queries = {name: prepared(con, *how) for name, how in QUERIES.items()}
    queries["median"] = median(con)
    queries["past_record"] = past_record(con)
    common.serve(queries)


def opened(path):
    begun = time.perf_counter()
    con = reading(path)
    rows = con.execute(AVERAGE).fetchall()
    con.close()
    return time.perf_counter() - begun, named("City", "Price")(rows)


if __name__ == "__main__":
    common.main(load, changes, query, opened)

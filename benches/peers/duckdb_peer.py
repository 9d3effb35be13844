"""DuckDB at its best: `read_text` + `from_json` with a typed struct, a hash of each raw record.

Current records are one typed table. A record whose raw text has a known hash is not parsed; of
the others every column is compared, and each difference is a row of `changes`. What is deleted
moves to `tombstones`. A step is one transaction.
"""

import datetime
import json
import os
import sys
import time

import duckdb

import common

TYPES = {
    "Bool": "BOOLEAN",
    "Int": "BIGINT",
    "Decimal": "DECIMAL(18,2)",
    "Date": "DATE",
    "DateTime": "TIMESTAMP",
    "GeoPoint": "JSON",
    "String": "VARCHAR",
}


def quoted(name):
    return '"' + name + '"'


class Records:
    """The SQL that the fields make."""

    def __init__(self, data):
        self.key = quoted(data["key"])
        self.fields = [(f["name"], TYPES[f["type"]]) for f in data["fields"]]
        members = ",".join(f'"{name}":"{kind}"' for name, kind in self.fields)
        self.struct = "{" + members + "}"

    def create(self, con):
        columns = ",".join(f"{quoted(name)} {kind}" for name, kind in self.fields)
        con.execute(f"create table records ({columns}, _hash ubigint)")
        con.execute(f"create table tombstones (_at integer, {columns}, _hash ubigint)")
        con.execute(
            "create table changelog (step integer, observed timestamp, key bigint,"
            " operation varchar, field varchar, previous varchar, new varchar)"
        )
        con.execute("create table steps (step integer, observed timestamp)")
        con.execute("create table fields (name varchar, kind varchar)")
        con.executemany("insert into fields values (?, ?)", self.fields)

    def split(self, folder):
        """Each record's raw text."""
        pages = f"read_text('{folder}/*.json')"
        return (
            "select unnest(from_json(content, '{\"value\":[\"JSON\"]}').value) as raw"
            f" from {pages}"
        )

    def differs(self, old, new):
        return " or ".join(
            f"{old}.{quoted(name)} is distinct from {new}.{quoted(name)}" for name, _ in self.fields
        )

    def pairs(self, old, new):
        """A list of every field with its values before and now."""
        return ",".join(
            f"{{'field':'{name}','previous':{old}.{quoted(name)}::varchar,"
            f"'new':{new}.{quoted(name)}::varchar}}"
            for name, _ in self.fields
        )


def connect(path, read_only=False):
    con = duckdb.connect(path, read_only=read_only)
    con.execute("set preserve_insertion_order = false")
    return con


def one(con, sql):
    return con.execute(sql).fetchone()[0]


def load_first(con, sql, folder):
    con.execute(
        f"insert into records select unnest(from_json(raw, '{sql.struct}')), hash(raw)"
        f" from ({sql.split(folder)})"
    )
    count = one(con, "select count(*) from records")
    return {"records": count, "inserted": count}


def load_again(con, sql, folder, at, moment):
    key = sql.key
    con.execute(
        "create or replace temp table staged as"
        " select h, case when r._hash is null then raw end as raw"
        f" from (select raw, hash(raw) as h from ({sql.split(folder)})) s"
        " left join records r on s.h = r._hash"
    )
    con.execute(
        "create or replace temp table fresh as"
        f" select unnest(from_json(raw, '{sql.struct}')), h as _hash from staged"
        " where raw is not null"
    )
    before = one(con, "select count(*) from changelog")
    # The one wide read of old records: those with the keys that were parsed.
    con.execute(
        f"insert into changelog select {at}, {moment}, key, 'update', c.field, c.previous, c.new"
        f" from (select n.{key} as key, unnest([{sql.pairs('o', 'n')}]) as c"
        f" from fresh n join records o on o.{key} = n.{key} where {sql.differs('o', 'n')})"
        " where c.previous is distinct from c.new"
    )
    changes = one(con, "select count(*) from changelog") - before
    con.execute(
        "create or replace temp table changed as"
        f" select * from fresh where {key} in"
        f" (select key from changelog where step = {at} and operation = 'update')"
    )
    con.execute(
        "create or replace temp table added as"
        f" select n.* from fresh n anti join records o on o.{key} = n.{key}"
    )
    con.execute(
        f"insert into changelog select {at}, {moment}, {key}, 'insert', null, null, null from added"
    )
    sent = one(con, "select count(*) from staged")
    parsed = one(con, "select count(*) from fresh")
    updated = one(con, "select count(*) from changed")
    added = one(con, "select count(*) from added")
    con.execute(f"delete from records where {key} in (select {key} from changed)")
    con.execute("insert into records select * from changed")
    con.execute("insert into records select * from added")
    if parsed > updated + added:
        # The same record in other bytes: its hash is another one.
        con.execute(
            f"update records r set _hash = n._hash from fresh n where r.{key} = n.{key}"
            " and r._hash <> n._hash"
        )
    return {
        "records": sent,
        "inserted": added,
        "unchanged": sent - updated - added,
        "field_changes": changes,
    }


def delete(con, sql, folder, at, moment):
    con.execute(
        "create or replace temp table gone as select unnest(from_json(content,"
        " '{\"value\":[{\"primary_key\":\"BIGINT\"}]}').value).primary_key as key"
        f" from read_text('{folder}/deleted/*.json')"
    )
    which = f"{sql.key} in (select key from gone)"
    con.execute(f"insert into tombstones select {at}, * from records where {which}")
    con.execute(
        f"insert into changelog select {at}, {moment}, {sql.key}, 'delete', null, null, null"
        f" from records where {which}"
    )
    count = one(con, f"select count(*) from records where {which}")
    con.execute(f"delete from records where {which}")
    return count


def load(folder, path, wave):
    data = common.workload(folder)
    sql = Records(data)
    counts = dict.fromkeys(["records", "inserted", "unchanged", "field_changes", "deleted"], 0)
    meter = common.Meter()
    fresh = not os.path.exists(path)
    con = connect(path)
    if fresh:
        sql.create(con)
    for step in common.steps(data, wave):
        pages = os.path.join(folder, step["folder"])
        at = step["at"]
        moment = f"make_timestamp({step['observed'] * 1_000_000})"
        begun = time.perf_counter()
        con.execute("begin")
        if fresh:
            done = load_first(con, sql, pages)
            fresh = False
        else:
            done = load_again(con, sql, pages, at, moment)
        if common.has_deletions(pages):
            done["deleted"] = delete(con, sql, pages, at, moment)
        con.execute(f"insert into steps values ({at}, {moment})")
        con.execute("commit")
        meter.commits.append(time.perf_counter() - begun)
        for name, count in done.items():
            counts[name] += count
    counts["live"] = one(con, "select count(*) from records")
    con.close()
    return meter.result(counts, [path, path + ".wal"], duckdb.__version__)


def as_json(text, kind):
    """A column's text as the feed had it."""
    if text is None:
        return None
    if kind in ("BIGINT", "BOOLEAN") or kind.startswith("DECIMAL"):
        return json.loads(text)
    if kind == "TIMESTAMP":
        return text.replace(" ", "T") + "Z"
    if kind == "JSON":
        return json.loads(text)
    return text


def changes(path, out):
    con = connect(path, read_only=True)
    kinds = dict(con.execute("select name, kind from fields").fetchall())
    rows = con.execute("select step, key, operation, field, previous, new from changelog")
    while batch := rows.fetchmany(10_000):
        for at, key, operation, field, previous, new in batch:
            kind = kinds.get(field, "VARCHAR")
            line = [at, key, operation, field, as_json(previous, kind), as_json(new, kind)]
            out.write(json.dumps(line) + "\n")


def query(path):
    sys.exit("not yet")


if __name__ == "__main__":
    common.main(load, changes, query)

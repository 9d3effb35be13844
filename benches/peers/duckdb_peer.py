"""DuckDB at its best: `read_text` + `from_json` with a typed struct, a hash of each raw record.

Current records are one typed table. A record whose raw text has a known hash is not parsed; of
the others every column is compared, and each difference is a row of `changes`. What is deleted
moves to `tombstones`. A step is one transaction.
"""

import datetime
import decimal
import json
import os
import time

import duckdb

import common

TYPES = {
    "Bool": "BOOLEAN",
    "Int": "BIGINT",
    "Decimal": "DECIMAL(18,2)",
    "Date": "DATE",
    "DateTime": "TIMESTAMP",
    "GeoPoint": 'STRUCT("type" VARCHAR, coordinates DOUBLE[])',
    "String": "VARCHAR",
}


def quoted(name):
    return '"' + name + '"'


class Records:
    """The SQL that the fields make."""

    def __init__(self, data):
        self.key = quoted(data["key"])
        self.fields = [(f["name"], TYPES[f["type"]]) for f in data["fields"]]
        # As `from_json` takes a type: a struct is an object of types.
        point = '{"type":"VARCHAR","coordinates":["DOUBLE"]}'
        members = ",".join(
            f'"{name}":' + (point if kind.startswith("STRUCT") else f'"{kind}"')
            for name, kind in self.fields
        )
        self.struct = "{" + members + "}"

    def create(self, con):
        columns = ",".join(f"{quoted(name)} {kind}" for name, kind in self.fields)
        con.execute(f"create table records ({columns}, _hash ubigint)")
        con.execute(f"create table tombstones (_step integer, {columns}, _hash ubigint)")
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
        "create or replace temp table changed as select distinct key from changelog"
        f" where step = {at} and operation = 'update'"
    )
    con.execute(
        f"create or replace temp table added as select n.{key} as key from fresh n"
        f" anti join records o on o.{key} = n.{key}"
    )
    con.execute(
        f"insert into changelog select {at}, {moment}, key, 'insert', null, null, null from added"
    )
    sent = one(con, "select count(*) from staged")
    parsed = one(con, "select count(*) from fresh")
    updated = one(con, "select count(*) from changed")
    added = one(con, "select count(*) from added")
    con.execute(f"delete from records where {key} in (select key from changed)")
    con.execute(
        f"insert into records select * from fresh where {key} in"
        " (select key from changed union all select key from added)"
    )
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


def plain(value):
    """A column's value as JSON has it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat() + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value


def as_rows(names, rows):
    return [{n: plain(v) for n, v in zip(names, row)} for row in rows]


AVERAGE = (
    "select City, avg(ListPrice) as Price from records where StandardStatus = 'Active' group by all"
)
FIELDS = (
    "ListingKeyNumeric, ListingId, StandardStatus, ListPrice, City, PostalCode, BedroomsTotal,"
    " BathroomsTotalInteger, LivingArea, UnparsedAddress, ModificationTimestamp"
)
WHOLE = "* exclude (_hash)"
PLACE = "where City = $city and StandardStatus = 'Active' and ListPrice between $low and $high"
NEWEST = "order by ModificationTimestamp desc, ListingKeyNumeric limit 100"
# Between two points on a sphere with a radius of 3,956 miles.
MILES = (
    "3956 * 2 * asin(sqrt("
    "pow(sin(radians(GeoLocation.coordinates[2] - $latitude) / 2), 2)"
    " + cos(radians($latitude)) * cos(radians(GeoLocation.coordinates[2]))"
    " * pow(sin(radians(GeoLocation.coordinates[1] - $longitude) / 2), 2)))"
)
SINCE = "observed > make_timestamp($since::bigint * 1000000)"
# What came after is undone: a record's own first change of status, its deletion, its entry.
PAST_STATUSES = f"""
with life as (
  select key, arg_min(operation, step) as first, min(step) as step from changelog
  where {SINCE} and operation <> 'update' group by key),
moved as (
  select key, arg_min(previous, step) as previous, min(step) as step from changelog
  where {SINCE} and field = 'StandardStatus' group by key)
select StandardStatus, count(*) as Count from (
  select coalesce(m.previous, r.StandardStatus) as StandardStatus
  from records r left join life l on l.key = r.ListingKeyNumeric
    left join moved m on m.key = r.ListingKeyNumeric
  where l.first is null
  union all
  select case when m.step <= l.step then m.previous else t.StandardStatus end
  from life l join tombstones t on t.ListingKeyNumeric = l.key and t._step = l.step
    left join moved m on m.key = l.key
  where l.first = 'delete')
group by all
"""

QUERIES = {
    "get": f"select {WHOLE} from records where ListingKeyNumeric = $key",
    "place_keys": f"select ListingKeyNumeric from records {PLACE}",
    "place_records": f"select {WHOLE} from records {PLACE}",
    "newest_fields": f"select {FIELDS} from records {NEWEST}",
    "newest_records": f"select {WHOLE} from records {NEWEST}",
    "average": AVERAGE,
    "median": AVERAGE.replace("avg", "median"),
    "months": "select StandardStatus, year(ListingContractDate) as Year,"
    " month(ListingContractDate) as Month, count(*) as Count from records group by all",
    "cuts": "select key as Key, previous::decimal(18,2) as Previous, new::decimal(18,2) as New"
    " from changelog where field = 'ListPrice' and new::decimal(18,2) <"
    f" previous::decimal(18,2) * 0.95 and {SINCE}",
    "past_statuses": PAST_STATUSES,
    "text": "select count(*) as Count from records where contains(PublicRemarks, $word)",
    "radius": f"select ListingKeyNumeric from records where {MILES} <= 1",
}


def prepared(con, sql):
    """Asks with what varies, and makes rows of JSON of the answer afterwards."""

    def given(values):
        used = {name: value for name, value in values.items() if f"${name}" in sql}

        def ask():
            return con.execute(sql, used).fetchall()

        names = [column[0] for column in con.execute(sql, used).description]
        return ask, lambda rows: as_rows(names, rows)

    return given


def past_record(con):
    """The record with what came after undone, the last change first."""
    kinds = dict(con.execute("select name, kind from fields").fetchall())
    current = QUERIES["get"]
    later = (
        f"select field, previous from changelog where key = $key and {SINCE} order by step desc"
    )

    def given(values):
        both = {name: values[name] for name in ("key", "since")}
        key = {"key": values["key"]}
        names = [column[0] for column in con.execute(current, key).description]

        def ask():
            row = con.execute(current, key).fetchone()
            return row, con.execute(later, both).fetchall()

        def answer(found):
            record = as_rows(names, [found[0]])[0]
            for field, previous in found[1]:
                record[field] = as_json(previous, kinds[field])
            return [record]

        return ask, answer

    return given


def query(path):
    con = connect(path, read_only=True)
    queries = {name: prepared(con, sql) for name, sql in QUERIES.items()}
    queries["past_record"] = past_record(con)
    common.serve(queries)


def opened(path):
    begun = time.perf_counter()
    con = duckdb.connect(path, read_only=True)
    rows = con.execute(AVERAGE).fetchall()
    con.close()
    return time.perf_counter() - begun, as_rows(["City", "Price"], rows)


FORMATS = {
    "parquet": "format parquet, compression zstd",
    "csv": "format csv, header",
    "ndjson": "format json",
}


def copy(path, target, kind, key):
    """All records in order of their keys, as a file."""
    meter = common.Meter()
    con = duckdb.connect(path, read_only=True)
    records = f"(select * exclude (_hash) from records order by {quoted(key)})"
    count = one(con, f"copy {records} to '{target}' ({FORMATS[kind]})")
    con.close()
    return meter.result({"records": count}, [target], duckdb.__version__)


if __name__ == "__main__":
    common.main(load, changes, query, opened, copy)

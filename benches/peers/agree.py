"""Random filters, asked of Relist, of DuckDB and of SQLite: do they find the same records?

    python benches/peers/agree.py --relist target/release/relist --store PAGES/loaded/relist.redb \
        --duckdb PAGES/loaded/duckdb.db --sqlite PAGES/loaded/sqlite.db --count 200

The stores are those that `relist bench query --peers --pages PAGES` loads. Each filter is made as a
tree, and written once as OData and once in each dialect of SQL, by the standard's rules for null
(OData 4.01 URL Conventions, 5.1.1.1): `eq` and `ne` take null for a value, other comparisons are
false for it, `not` of unknown is unknown.
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys

import duckdb

TEXTS = ["City", "PropertyType", "PropertySubType", "PostalCode", "StreetName", "PublicRemarks"]
STATUSES = ["Active", "Pending", "Closed", "Expired", "Withdrawn", "Canceled"]
NUMBERS = [("ListPrice", 100_000, 1_500_000), ("BedroomsTotal", 0, 8), ("LivingArea", 500, 6_000)]
NUMBERS += [("YearBuilt", 1_950, 2_024), ("ClosePrice", 100_000, 1_500_000)]
DATES = ["ListingContractDate", "CloseDate"]
OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def literal(text):
    return "'" + text.replace("'", "''") + "'"


class Dialect:
    """SQL of one kind: how a field is read."""

    def __init__(self, fields, read):
        self.fields, self.read = fields, read

    def compare(self, field, operator, value):
        column = self.read(field)
        if operator in ("eq", "ne"):
            words = "is not distinct from" if operator == "eq" else "is distinct from"
            return f"({column} {words} {value})"
        return f"coalesce({column} {OPERATORS[operator]} {value}, false)"

    def sql(self, node):
        kind = node[0]
        if kind in ("and", "or"):
            return "(" + f" {kind} ".join(self.sql(n) for n in node[1]) + ")"
        if kind == "not":
            return f"(not {self.sql(node[1])})"
        if kind == "null":
            return f"({self.read(node[1])} is {'not ' if node[2] == 'ne' else ''}null)"
        if kind == "in":
            return "(" + " or ".join(self.compare(node[1], "eq", v) for v in node[2]) + ")"
        if kind == "text":
            column, part = self.read(node[2]), node[3]
            pattern = {"contains": f"%{part}%", "startswith": f"{part}%", "endswith": f"%{part}"}
            # What these have in common: a case counts, and no part has a wildcard in it.
            return f"({column} {self.like} {literal(pattern[node[1]].replace('%', self.any))})"
        return self.compare(node[1], node[2], node[3])


class DuckDb(Dialect):
    like, any = "like", "%"


class Sqlite(Dialect):
    like, any = "glob", "*"

    def compare(self, field, operator, value):
        return super().compare(field, operator, value.removeprefix("date "))


def odata(node):
    kind = node[0]
    if kind in ("and", "or"):
        return "(" + f" {kind} ".join(odata(n) for n in node[1]) + ")"
    if kind == "not":
        return f"not ({odata(node[1])})"
    if kind == "null":
        return f"{node[1]} {node[2]} null"
    if kind == "in":
        return f"{node[1]} in ({','.join(node[2])})"
    if kind == "text":
        return f"{node[1]}({node[2]},{literal(node[3])})"
    value = node[3]
    return f"{node[1]} {node[2]} {value[6:-1] if value.startswith('date ') else value}"


def leaf(rng, samples):
    kind = rng.choice(["number", "number", "text", "equal", "status", "date", "null", "in"])
    texts = [f for f in TEXTS if samples.get(f)]
    if kind == "number":
        field, low, high = rng.choice(NUMBERS)
        return ("compare", field, rng.choice(list(OPERATORS)), str(rng.randint(low, high)))
    if kind == "text":
        field = rng.choice(texts)
        value = rng.choice(samples[field])
        words = [w for w in value.split() if w.isalnum()] or ["a"]
        function = rng.choice(["contains", "startswith", "endswith"])
        return ("text", function, field, rng.choice(words))
    if kind == "equal":
        field = rng.choice(texts)
        value = literal(rng.choice(samples[field]))
        return ("compare", field, rng.choice(["eq", "ne"]), value)
    if kind == "status":
        value = literal(rng.choice(STATUSES))
        return ("compare", "StandardStatus", rng.choice(["eq", "ne"]), value)
    if kind == "date":
        day = f"20{rng.randint(18, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        return ("compare", rng.choice(DATES), rng.choice(list(OPERATORS)), f"date '{day}'")
    if kind == "null":
        field = rng.choice(["CloseDate", "ClosePrice", "YearBuilt", "BedroomsTotal", "City"])
        return ("null", field, rng.choice(["eq", "ne"]))
    field = rng.choice(texts[:4])
    return ("in", field, sorted({literal(rng.choice(samples[field])) for _ in range(3)}))


def tree(rng, samples, depth):
    if depth == 0 or rng.random() < 0.3:
        return leaf(rng, samples)
    if rng.random() < 0.2:
        return ("not", tree(rng, samples, depth - 1))
    parts = [tree(rng, samples, depth - 1) for _ in range(rng.randint(2, 3))]
    return (rng.choice(["and", "and", "or"]), parts)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--relist", "--store", "--duckdb", "--sqlite"):
        parser.add_argument(name, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    duck = duckdb.connect(args.duckdb, read_only=True)
    lite = sqlite3.connect(args.sqlite)
    fields = [row[0] for row in duck.execute("select name from fields").fetchall()]
    key = "ListingKeyNumeric"
    samples = {
        field: [
            row[0]
            for row in duck.execute(
                f'select distinct "{field}" from records where "{field}" is not null limit 50'
            ).fetchall()
        ]
        for field in TEXTS
        if field in fields
    }
    dialects = [
        (DuckDb(fields, lambda f: f'"{f}"'), lambda sql: duck.execute(sql).fetchall(), f'"{key}"'),
        (Sqlite(fields, lambda f: f"json_extract(body,'$.{f}')"), lite.execute, "key"),
    ]
    found_any, failures = 0, 0
    for number in range(args.count):
        node = tree(rng, samples, 2)
        text = odata(node)
        run = [args.relist, "query", "Property", "--store", args.store, "-o", "ndjson"]
        run += ["--filter", text, "--select", key]
        lines = subprocess.run(run, capture_output=True, text=True, check=False)
        if lines.returncode != 0:
            sys.exit(f"{text}\n{lines.stderr}")
        ours = sorted(json.loads(line)[key] for line in lines.stdout.splitlines())
        found_any += bool(ours)
        for dialect, ask, column in dialects:
            sql = f"select {column} from records where {dialect.sql(node)}"
            theirs = sorted(row[0] for row in ask(sql))
            if ours != theirs:
                failures += 1
                print(f"{type(dialect).__name__}: {len(theirs)} records, Relist {len(ours)}")
                print(f"  {text}\n  {sql}")
        if number % 50 == 49:
            print(f"{number + 1} filters, {failures} differences", flush=True)
    print(f"{args.count} filters ({found_any} find records), {failures} differences")
    sys.exit(failures > 0)


main()

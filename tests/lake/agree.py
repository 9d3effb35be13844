"""What each reader finds in a Parquet file: rows, and per column type, nulls, least, greatest, sum.

Values are printed as text of one form, so that the readers can be compared with each other and
with what the store says.
"""

import datetime
import decimal
import json
import sys

import duckdb
import pandas
import polars
import pyarrow.compute as pc
import pyarrow.parquet as pq


def text(value):
    if value is None or value is pandas.NaT or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, decimal.Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, (pandas.Timestamp, datetime.datetime)):
        return value.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if hasattr(value, "item"):
        return text(value.item())
    return str(value)


def kind(arrow):
    name = str(arrow)
    if name.startswith("dictionary"):
        return "string"
    return name


def figures(nulls, least, greatest, total):
    return {"nulls": int(nulls), "min": text(least), "max": text(greatest), "sum": text(total)}


def is_number(name):
    return name == "int64" or name.startswith("decimal")


def is_plain(name):
    return not name.startswith(("list", "struct"))


def by_pyarrow(path, kinds):
    table = pq.read_table(path)
    out = {}
    for name in table.column_names:
        column = table[name]
        if kinds[name] == "string" and str(column.type).startswith("dictionary"):
            column = column.cast("string")
        ends = pc.min_max(column) if is_plain(kinds[name]) else {"min": None, "max": None}
        ends = {end: value.as_py() if value is not None else None for end, value in
                ((end, ends[end]) for end in ("min", "max"))}
        total = pc.sum(column).as_py() if is_number(kinds[name]) else None
        out[name] = figures(column.null_count, ends["min"], ends["max"], total)
    return table.num_rows, out


def by_duckdb(path, kinds):
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    out = {}
    for name, ty in kinds.items():
        column = '"' + name + '"'
        ends = f"min({column}), max({column})" if is_plain(ty) else "null, null"
        total = f"sum({column})" if is_number(ty) else "null"
        row = con.execute(
            f"select count(*) - count({column}), {ends}, {total} from read_parquet(?)", [path]
        ).fetchone()
        out[name] = figures(*row)
    return con.execute("select count(*) from read_parquet(?)", [path]).fetchone()[0], out


def by_polars(path, kinds):
    frame = polars.read_parquet(path)
    out = {}
    for name, ty in kinds.items():
        column = frame[name]
        if column.dtype in (polars.Categorical, polars.Enum):
            column = column.cast(polars.String)
        plain = is_plain(ty)
        total = column.sum() if is_number(ty) and column.null_count() < len(column) else None
        out[name] = figures(
            column.null_count(),
            column.min() if plain else None,
            column.max() if plain else None,
            total,
        )
    return frame.height, out


def by_pandas(path, kinds):
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    out = {}
    for name, ty in kinds.items():
        column = frame[name]
        if ty == "string":
            column = column.astype("object").where(column.notna(), None)
        given = column.dropna()
        plain = is_plain(ty) and len(given) > 0
        total = given.sum() if is_number(ty) and len(given) > 0 else None
        out[name] = figures(
            column.isna().sum(),
            min(given) if plain else None,
            max(given) if plain else None,
            total,
        )
    return len(frame), out


def main(path):
    schema = pq.read_schema(path)
    kinds = {field.name: kind(field.type) for field in schema}
    fields = {
        field.name: {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        for field in schema
    }
    readers = {"pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars, "pandas": by_pandas}
    found = {}
    for name, reader in readers.items():
        rows, columns = reader(path, kinds)
        found[name] = {"rows": rows, "columns": columns}
    print(json.dumps({"types": kinds, "metadata": fields, "readers": found}))


if __name__ == "__main__":
    main(sys.argv[1])

"""A market over many feeds, on Apache Spark, from the lake that `relist lake` keeps.

    spark-submit market_spark.py LAKE

Everything is read through the manifests in LAKE/_manifest: the files that they name are one
snapshot of each feed, whatever is written meanwhile.
"""

import json
import pathlib
import sys

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as f


def manifests(lake):
    """What is valid of each feed."""
    paths = sorted((pathlib.Path(lake) / "_manifest").glob("feed=*.json"))
    return [json.loads(path.read_text()) for path in paths]


def read(spark, lake, files):
    """Files of one table, with the partitions of their paths as columns."""
    paths = [str(pathlib.Path(lake) / file["path"]) for file in files]
    # A feed's fields may differ from another's.
    return spark.read.option("basePath", str(_table(lake, files))).option(
        "mergeSchema", "true"
    ).parquet(*paths)


def _table(lake, files):
    return pathlib.Path(lake) / files[0]["path"].split("/")[0]


def current(spark, lake, resource):
    """The records of a resource as of now: the whole files, with what was updated since."""
    tables = [m["tables"][resource] for m in manifests(lake) if resource in m["tables"]]
    key = tables[0]["key"]
    records = read(spark, lake, [file for table in tables for file in table["files"]])
    updated = [file for table in tables for file in table.get("updates", [])]
    if not updated:
        return records
    updates = read(spark, lake, updated)
    kept = records.join(updates.select("feed", key), ["feed", key], "left_anti")
    there = updates.where(~f.col("_deleted")).drop("_deleted")
    return kept.unionByName(there, allowMissingColumns=True)


def changes(spark, lake):
    """The changelog of all feeds: a row a field change."""
    tables = [m["tables"]["changes"] for m in manifests(lake)]
    return read(spark, lake, [file for table in tables for file in table["files"]])


def median_price_by_city(records):
    """The median list price of what is active, by feed and city."""
    active = records.where(f.col("StandardStatus") == "Active")
    price = f.median(f.col("ListPrice").cast("double")).alias("MedianListPrice")
    grouped = active.groupBy("feed", "City").agg(price, f.count("*").alias("Count"))
    return grouped.orderBy("feed", f.desc("Count"), "City")


def price_cuts(changelog):
    """How many prices were cut each day, and by how much in the mean."""
    price = lambda name: f.col(name).try_cast("decimal(18,2)")
    moved = changelog.where(f.col("FieldName") == "ListPrice").select(
        "feed", "date", price("PreviousValue").alias("previous"), price("NewValue").alias("new")
    )
    cuts = moved.where(f.col("new") < f.col("previous"))
    share = f.avg((f.col("previous") - f.col("new")) / f.col("previous"))
    counted = cuts.groupBy("feed", "date").agg(f.count("*").alias("Cuts"), share.alias("MeanCut"))
    return counted.orderBy("feed", "date")


def as_of(records, changelog, key, field, feed, sequence):
    """A field of a feed's records as of a sequence: what came after is undone."""
    own = records.where(f.col("feed") == feed).select(f.col(key).cast("string").alias("key"), field)
    later = changelog.where((f.col("feed") == feed) & (f.col("Sequence") > sequence))
    first = Window.partitionBy("ResourceRecordKey").orderBy("Sequence")
    before = (
        later.where(f.col("FieldName") == field)
        .withColumn("n", f.row_number().over(first))
        .where("n = 1")
        .select(f.col("ResourceRecordKey").alias("key"), f.col("PreviousValue").alias("was"))
        .withColumn("moved", f.lit(True))
    )
    # What was inserted later was not there.
    new = later.where(f.col("Operation") == "insert").select(
        f.col("ResourceRecordKey").alias("key")
    )
    value = f.when(f.col("moved"), f.col("was")).otherwise(f.col(field).cast("string"))
    joined = own.join(new, "key", "left_anti").join(before, "key", "left")
    return joined.select("key", value.alias(field))


def main(lake):
    spark = SparkSession.builder.appName("market").getOrCreate()
    records = current(spark, lake, "Property").cache()
    median_price_by_city(records).show(20, truncate=False)
    price_cuts(changes(spark, lake)).show(31, truncate=False)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])

"""What Spark finds in a lake, with two workers, as one line of JSON."""

import importlib.util
import json
import os
import sys

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main(job, lake, feed, sequence):
    spec = importlib.util.spec_from_file_location("market_spark", job)
    market = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(market)
    spark = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .config("spark.executor.memory", "512m")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    records = market.current(spark, lake, "Property").cache()
    sums = records.groupBy("feed", "StandardStatus").agg(
        f.count("*").alias("count"), f.sum("ListPrice").alias("sum")
    )
    changelog = market.changes(spark, lake)
    past = market.as_of(records, changelog, "ListingKeyNumeric", "StandardStatus", feed, sequence)
    out = {
        "status": [
            [row.feed, row.StandardStatus, row["count"], str(row["sum"])] for row in sums.collect()
        ],
        "latest": str(records.agg(f.max("ModificationTimestamp")).collect()[0][0]),
        "changes": changelog.count(),
        "cuts": sum(row.Cuts for row in market.price_cuts(changelog).collect()),
        "medians": [
            [row.feed, row.City, row.MedianListPrice, row.Count]
            for row in market.median_price_by_city(records).collect()
        ],
        "past": sorted([row["key"], row.StandardStatus] for row in past.collect()),
    }
    print("RESULT " + json.dumps(out))
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

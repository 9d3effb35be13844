"""Exports of the same records by Relist and by DuckDB, in turn: seconds, processor time, bytes.

    python export_bench.py --relist target/release/relist --store S.redb --duckdb D.db --rounds 3

Both write whole files in order of key; Relist also syncs them to the disk. The stores are those
that `relist bench ingest --peers --pages DIR` leaves in DIR/loaded.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

RECORDS = "(select * exclude (_hash) from records order by ListingKeyNumeric)"
FORMATS = {
    "parquet": "format parquet, compression zstd",
    "csv": "format csv, header",
    "ndjson": "format json",
}
COPY = """
import duckdb, sys
database, records, target, options = sys.argv[1:]
con = duckdb.connect(database, read_only=True)
con.execute(f"copy {records} to '{target}' ({options})")
"""


def measured(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def main():
    parser = argparse.ArgumentParser()
    for name in ("relist", "store", "duckdb"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=".")
    args = parser.parse_args()
    for name, options in FORMATS.items():
        files = [os.path.join(args.folder, f"{who}.{name}") for who in ("relist", "duckdb")]
        ours = [args.relist, "export", "Property", "--store", args.store, "--force", "--quiet"]
        ours += ["--no-manifest", "--to", files[0]]
        theirs = [sys.executable, "-c", COPY, args.duckdb, RECORDS, files[1], options]
        taken = [[], []]
        for _ in range(args.rounds):
            for own, command in zip(taken, (ours, theirs)):
                own.append(measured(command))
        seconds = [statistics.median(t[0] for t in own) for own in taken]
        cpu = [statistics.median(t[1] for t in own) for own in taken]
        sizes = [os.path.getsize(file) for file in files]
        print(
            f"{name}: {seconds[0]:.2f} s, {cpu[0]:.2f} cpu, {sizes[0]:,} B; DuckDB"
            f" {seconds[1]:.2f} s, {cpu[1]:.2f} cpu, {sizes[1]:,} B; ratio"
            f" {seconds[1] / seconds[0]:.2f}, cpu {cpu[1] / cpu[0]:.2f},"
            f" size {sizes[0] / sizes[1]:.2f}"
        )


if __name__ == "__main__":
    main()

"""What the peers share: the workload's description, the command line, and what is measured."""

import argparse
import json
import os
import resource
import sys
import time

# A wave's steps name their folders; `truth.json` is written by `relist bench data`.


def workload(folder):
    with open(os.path.join(folder, "truth.json"), encoding="utf-8") as file:
        return json.load(file)


def steps(data, wave):
    return next(w for w in data["waves"] if w["name"] == wave)["steps"]


def has_deletions(folder):
    return os.path.isdir(os.path.join(folder, "deleted"))


class Meter:
    """Time and processor time from its making on."""

    def __init__(self):
        self.begun = time.perf_counter()
        self.cpu = self._cpu()
        self.commits = []

    @staticmethod
    def _cpu():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def result(self, counts, files, version):
        seconds = time.perf_counter() - self.begun
        cpu = self._cpu() - self.cpu
        used = resource.getrusage(resource.RUSAGE_SELF)
        ordered = sorted(self.commits)

        def at(part):
            return ordered[round((len(ordered) - 1) * part)] if ordered else None

        return dict(
            counts,
            seconds=seconds,
            cpu_seconds=cpu,
            peak_memory=used.ru_maxrss * 1024,
            file_bytes=sum(os.path.getsize(f) for f in files if os.path.exists(f)),
            commits=len(ordered),
            commit_p50=at(0.5),
            commit_p99=at(0.99),
            version=version,
        )


def serve(queries):
    """Answers lines of `{"query": name, "runs": n, "with": {..}}` until there are none."""
    for line in sys.stdin:
        asked = json.loads(line)
        given = queries.get(asked["query"])
        if given is None:
            reply = {"seconds": None, "answer": None}
        else:
            ask, answer = given(asked["with"])
            taken = []
            for _ in range(asked["runs"]):
                begun = time.perf_counter()
                found = ask()
                taken.append(time.perf_counter() - begun)
            taken.sort()
            reply = {"seconds": taken[len(taken) // 2], "answer": answer(found)}
        print(json.dumps(reply), flush=True)


def main(wave, changes, query, opened, copy=None):
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("wave")
    one.add_argument("--data", required=True)
    one.add_argument("--to", required=True)
    one.add_argument("--wave", required=True)
    for name in ("changes", "query", "open"):
        actions.add_parser(name).add_argument("--store", required=True)
    if copy:
        export = actions.add_parser("copy")
        for name in ("store", "to", "format", "key"):
            export.add_argument("--" + name, required=True)
    asked = parser.parse_args()
    if asked.action == "wave":
        print(json.dumps(wave(asked.data, asked.to, asked.wave)))
    elif asked.action == "changes":
        changes(asked.store, sys.stdout)
    elif asked.action == "query":
        query(asked.store)
    elif asked.action == "copy":
        print(json.dumps(copy(asked.store, asked.to, asked.format, asked.key)))
    else:
        seconds, answer = opened(asked.store)
        print(json.dumps({"seconds": seconds, "answer": answer}))

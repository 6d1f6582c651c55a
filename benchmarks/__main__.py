"""`python -m benchmarks PART [--json] [--quick]`, or `all`, which runs every part and writes docs/benchmarks.md."""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.page import page, table_line
from benchmarks.row import Row
from benchmarks.timing import FULL, QUICK, Effort

PARTS = ("simulator", "learner", "curriculum", "transport", "checkpoint", "elastic", "operator")
TABLE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PART_LIMIT_S = 900
NOTE = "note: "  # what a part says on stderr for the page


def main() -> int:
    """Run one part in this process, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument("--json", action="store_true", help="one JSON object a line (example: curriculum --json)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, no peers: tests the benchmark, its figures mean nothing"
    )
    parser.add_argument("--experiments", type=int, help="operator: how many are applied at once (example: 1000)")
    parser.add_argument("--running", type=int, help="operator: how many of them go on to train (example: 1000)")
    arguments = parser.parse_args()
    if arguments.part == "all":
        return write_table()
    asked = {"experiments": arguments.experiments, "running": arguments.running}
    options = {name: value for name, value in asked.items() if value is not None}
    if options and arguments.part != "operator":
        parser.error("--experiments and --running belong to part operator")
    for row in rows_of(arguments.part, QUICK if arguments.quick else FULL, options):
        print(row.line() if arguments.json else table_line(row), flush=True)
    return 0


def rows_of(part: str, effort: Effort, options: dict[str, Any]) -> Iterator[Row]:
    """Yield a part's rows as they are measured."""
    yield from importlib.import_module(f"benchmarks.{part}").rows(effort, **options)


def write_table() -> int:
    """Run every part and write the table; a part that fails is named in it, and in the exit code."""
    rows: list[Row] = []
    notes: dict[str, list[str]] = {}
    failed: list[str] = []
    for part in PARTS:
        print(f"measuring {part}", flush=True)
        command = [sys.executable, "-m", "benchmarks", part, "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            printed, said = process.communicate(timeout=PART_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, said = process.communicate()
            said += f"\n{NOTE}ended after {PART_LIMIT_S} s, not finished\n"
        sys.stderr.write(said)
        rows += [Row(**json.loads(line)) for line in printed.splitlines()]
        notes[part] = [line.removeprefix(NOTE) for line in said.splitlines() if line.startswith(NOTE)]
        if process.returncode:
            failed.append(part)
    TABLE.write_text(page(machine(), rows, notes, failed), encoding="utf-8")
    print(f"wrote {TABLE}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def machine() -> str:
    """Return what the figures were measured on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())

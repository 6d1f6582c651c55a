"""`python -m benchmarks PART [--json]`, or `all`, which runs every part and writes docs/benchmarks.md."""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.row import Row

PARTS = ("curriculum",)
TABLE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    """Run one part in this process, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line (example: benchmarks curriculum --json)"
    )
    arguments = parser.parse_args()
    if arguments.part == "all":
        return write_table()
    for row in importlib.import_module(f"benchmarks.{arguments.part}").rows():
        print(row.line() if arguments.json else table_line(row), flush=True)
    return 0


def write_table() -> int:
    """Run every part and write the table; a part that fails is named in it, and in the exit code."""
    rows: list[Row] = []
    failed: list[str] = []
    for part in PARTS:
        command = [sys.executable, "-m", "benchmarks", part, "--json"]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        rows += [Row(**json.loads(line)) for line in finished.stdout.splitlines()]
        if finished.returncode:
            failed.append(part)
    TABLE.write_text(page(rows, failed), encoding="utf-8")
    print(f"wrote {TABLE}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def page(rows: list[Row], failed: list[str]) -> str:
    """Return docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: ratios of ours to the yardstick in one run on the same cores; bigger is better.",
        f"Machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| part | what | ours | yardstick | against | ratio | bar |",
        "|---|---|---|---|---|---|---|",
        *(table_line(row) for row in rows),
    ]
    if failed:
        lines += ["", f"Not measured in this run, because the benchmark failed: {', '.join(failed)}."]
    return "\n".join(lines) + "\n"


def table_line(row: Row) -> str:
    """Return a row of the table."""
    bar = "" if row.bar is None else f"{row.bar:g}"
    verdict = "" if row.bar is None or row.ratio >= row.bar else " (missed)"
    figures = f"{row.ours:.4g} | {row.yardstick:.4g} | {row.yardstick_name} | {row.ratio:.3g}{verdict} | {bar}"
    return f"| {row.part} | {row.what} | {figures} |"


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())

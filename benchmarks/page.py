"""docs/benchmarks.md as a function of what was measured."""

from collections.abc import Mapping, Sequence

from benchmarks.row import Row

HEADER = ("| part | what | ours | yardstick | against | ratio | bar |", "|---|---|---|---|---|---|---|")


def page(machine: str, rows: Sequence[Row], notes: Mapping[str, Sequence[str]], failed: Sequence[str]) -> str:
    """Return the page.

    Args:
        machine: processor, cores, versions and day.
        rows: of all parts, in order.
        notes: what each part had to say, such as a yardstick that could not be had.
        failed: parts that ended with an error.
    """
    missed = [row for row in rows if is_missed(row)]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: ours beside a yardstick, by turns in one run on the same cores. The ratio says how",
        "many times better ours is, bar is the least that we ask of it. Absolute figures drift between machines,",
        "ratios less.",
        "",
        "One part alone: `python -m benchmarks PART --json`.",
        "",
        f"Machine: {machine}.",
        "",
        *HEADER,
        *(table_line(row) for row in rows),
    ]
    if missed:
        lines += ["", f"Missed: {'; '.join(f'{row.part}, {row.what} ({row.yardstick_name})' for row in missed)}."]
    if failed:
        lines += ["", f"Not measured in this run, because the benchmark failed: {', '.join(failed)}."]
    said = [f"* {part}: {note}" for part, part_notes in notes.items() for note in part_notes]
    if said:
        lines += ["", "Notes:", "", *said]
    return "\n".join(lines) + "\n"


def is_missed(row: Row) -> bool:
    """Return whether a row has a bar and a ratio below it."""
    return row.bar is not None and row.ratio is not None and row.ratio < row.bar


def table_line(row: Row) -> str:
    """Return a row of the table."""
    bar = "" if row.bar is None else f"{row.bar:g}"
    ratio = "not measured" if row.ratio is None else f"{row.ratio:.3g}" + (" (missed)" if is_missed(row) else "")
    yardstick = "" if row.yardstick is None else f"{row.yardstick:.4g}"
    return f"| {row.part} | {row.what} | {row.ours:.4g} | {yardstick} | {row.yardstick_name} | {ratio} | {bar} |"

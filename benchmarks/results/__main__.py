"""`python -m benchmarks.results`: train the examples over seeds and write their parts of docs/results.md.

A seed that was trained before, in the same directory, is only read; with `--seeds 0` the page keeps what it says of
the quickstart, with `--adaptation-seeds 0` of the adaptation example.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ada_trainer.report.sections import score_chart
from benchmarks.results import adaptation, emergence, quickstart, studies, validation
from benchmarks.results.tables import PAGE, ROOT, picture, put_section

PICTURES = ROOT / "docs" / "images"


def main() -> int:
    """Run all seeds, then write the page and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the quickstart (example: --seeds 5)")
    parser.add_argument("--adaptation-seeds", type=int, default=2, help="seeds of the adaptation example")
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / "results", help="where the runs are kept")
    arguments = parser.parse_args()
    quick = [quickstart.run_seed(seed, arguments.directory) for seed in range(1, arguments.seeds + 1)]
    long = [adaptation.run_seed(seed, arguments.directory) for seed in range(1, arguments.adaptation_seeds + 1)]
    for lines in sections(quick, long):
        put_section(lines)
    PICTURES.mkdir(exist_ok=True)
    for name, chart in pictures(quick, long).items():
        (PICTURES / f"{name}.svg").write_text(picture(chart), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


def pictures(quick: Sequence[quickstart.Outcome], long: Sequence[adaptation.Outcome]) -> dict[str, str]:
    """Return the charts by the name of the file."""
    drawn = {"quickstart-scores": score_chart(quick[0].student)} if quick else {}
    if long:
        drawn["adaptation-scores"] = score_chart(long[0].stages[-1])
        drawn["emergent-curriculum"] = emergence.chart(long[0].history)
    return drawn


def sections(quick: Sequence[quickstart.Outcome], long: Sequence[adaptation.Outcome]) -> list[list[str]]:
    """Return the parts of docs/results.md; none for an example of which no seed was asked for."""
    parts = [quickstart.section(quick)] if quick else []
    parts += [adaptation.section(long), adaptation.emerged(long)] if long else []
    return [*parts, validation.section(validation.read_runs()), *studies.sections()]


if __name__ == "__main__":
    raise SystemExit(main())

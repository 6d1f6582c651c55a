"""`python -m benchmarks.results`: train the examples over seeds and write docs/results.md.

A seed that was trained before, in the same directory, is only read.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ada_trainer.report.sections import score_chart
from benchmarks.results import adaptation, emergence, quickstart, studies, validation
from benchmarks.results.tables import PAGE, ROOT, picture
from benchmarks.validation import Run

PICTURES = ROOT / "docs" / "images"


def main() -> int:
    """Run all seeds, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the quickstart (example: --seeds 5)")
    parser.add_argument("--adaptation-seeds", type=int, default=2, help="seeds of the adaptation example")
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / "results", help="where the runs are kept")
    arguments = parser.parse_args()
    quick = [quickstart.run_seed(seed, arguments.directory) for seed in range(1, arguments.seeds + 1)]
    long = [adaptation.run_seed(seed, arguments.directory) for seed in range(1, arguments.adaptation_seeds + 1)]
    PAGE.write_text(page(quick, long, validation.read_runs(), studies.sections()), encoding="utf-8")
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


def page(
    quick: Sequence[quickstart.Outcome],
    long: Sequence[adaptation.Outcome],
    runs: Sequence[Run] = (),
    studied: Sequence[str] = (),
) -> str:
    """Return docs/results.md."""
    lines = [
        "# Results",
        "",
        "Written by `make results`. Scores are the share of the last trial's time in which the goal holds, means over",
        "held-out tasks; brackets are 95% bootstrap intervals, differences are paired by task. Seconds are wall time",
        "of training, whatever else the machine did.",
        *(["", *quickstart.section(quick)] if quick else []),
        *(["", *adaptation.section(long)] if long else []),
        *(["", *validation.section(runs)] if runs else []),
        *(["", *studied] if studied else []),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())

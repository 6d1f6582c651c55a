"""The page: sections in order, one file, no scripts, nothing fetched."""

from html import escape
from importlib.resources import files

from ada_trainer.report import sections
from ada_trainer.report.data import ReportData

_INTRODUCTION = (
    "An <i>adaptive agent</i> meets a task it has never seen, tries, and gets good at it within a few trials, without "
    "any change to its weights. It learned how to do that beforehand, by reinforcement learning over a very large "
    "number of small tasks whose rules it is not told. This page reports one such training run."
)


def render(data: ReportData) -> str:
    """Return the whole report as one HTML document."""
    name = escape(data.experiment.metadata.name)
    style = (files("ada_trainer.report") / "style.css").read_text(encoding="utf-8")
    body = "\n".join(
        [
            f"<h1>{name}</h1><p class='soft'>Ada Operator, training report</p>",
            sections.headline(data),
            f"<p>{_INTRODUCTION}</p>",
            sections.scores(data),
            sections.videos(data),
            sections.learning(data),
            sections.stages(data),
            sections.curriculum(data),
            sections.record(data),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: training report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body>{body}</body></html>\n"
    )

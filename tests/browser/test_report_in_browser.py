"""The report as a person sees it: real browser, light and dark, wide and narrow."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ada_api.experiment import AdaExperiment
from ada_trainer.evaluation.result import AGENT, CLEARED, NOOP, RANDOM, Evaluation
from ada_trainer.report.data import ReportData, StageData, Video
from ada_trainer.report.page import render
from ada_trainer.report.sections import CURRICULUM_METRICS

TRIALS = (1, 2, 3, 5, 8)


def an_evaluation(stage: str) -> Evaluation:
    rng = np.random.default_rng(0)
    levels = {AGENT: [0.5, 0.6, 0.65, 0.7, 0.7], CLEARED: [0.5] * 5, RANDOM: [0.1] * 5, NOOP: [0.0] * 5}
    scores = {
        agent: {k: np.clip(rng.normal(level, 0.3, 64), 0, 1) for k, level in zip(TRIALS, by_trials, strict=True)}
        for agent, by_trials in levels.items()
    }
    probes = {"the-longest-name-of-a-probe-task-that-there-may-be": {k: np.full(16, k / 8) for k in TRIALS}}
    return Evaluation(stage, 1000, "sha256:" + "0" * 64, tuple(range(64)), scores, 3.0, probes)


def a_report() -> ReportData:
    document = {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "browser-test"},
        "spec": {"stages": [{"name": "teacher", "frames": 10}, {"name": "student", "frames": 10}]},
    }
    experiment = AdaExperiment.model_validate(document)
    history = [
        {
            "frames": 1000 * i,
            "time": 100.0 + i,
            "score": 0.4 + 0.01 * i,
            "scoreByTrial": [0.4, 0.4 + 0.01 * i, None, None, 0.4 + 0.02 * i],
            **dict.fromkeys(CURRICULUM_METRICS, 1.0 + i / 10),
        }
        for i in range(20)
    ]
    stages = [StageData(s, 53_000, 20_000, history, an_evaluation(s.name)) for s in experiment.spec.stages]
    picture = io.BytesIO()
    Image.new("RGB", (64, 32), (200, 30, 30)).save(picture, "GIF")
    video = Video(
        "student", "7", "the player is near the yellow sphere", ("a rule",), "First trial", picture.getvalue()
    )
    return ReportData(experiment, stages, [video], [{"stage": "student", "commit": "abc", "diff": "-a\n+b"}])


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render(a_report()), encoding="utf-8")
    return path


def test_the_report_reads_well_in_light_and_dark_and_fetches_nothing(chromium, page_file: Path, tmp_path: Path) -> None:
    async def look() -> dict[str, object]:
        seen: dict[str, object] = {}
        async with chromium.browser_page(tmp_path / "profile") as page:
            await page.open(page_file.as_uri())
            for scheme in ("light", "dark"):
                await page.show(1100, scheme)
                seen[scheme] = await page.evaluate("getComputedStyle(document.body).backgroundColor")
                await page.screenshot(tmp_path / f"{scheme}.png")
            seen["charts"] = await page.evaluate("document.querySelectorAll('svg').length")
            seen["headings"] = await page.evaluate("[...document.querySelectorAll('h2')].map(h => h.innerText)")
            seen["probes"] = await page.evaluate("document.body.innerText.match(/0\\.625/g).length")
            seen["picture"] = await page.evaluate("document.querySelector('img.video').naturalWidth")
            await page.show(400, "light")
            seen["overflow"] = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            seen["requested"] = [url for url in page.requested if not url.startswith(("file:", "data:"))]
        return seen

    seen = asyncio.run(look())
    assert seen["light"] != seen["dark"]
    assert seen["charts"] == 2 + 2 + len(CURRICULUM_METRICS)
    assert seen["headings"][:3] == ["Score by number of trials", "Watch it", "Learning curves"]
    assert seen["probes"] == 2, "k = 5 of the probe task, for both stages"
    assert seen["picture"] == 64
    assert seen["overflow"] <= 0, "the page is wider than a telephone"
    assert seen["requested"] == []
    light, dark = (
        np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L")).mean() for scheme in ("light", "dark")
    )
    assert light > 180
    assert dark < 90

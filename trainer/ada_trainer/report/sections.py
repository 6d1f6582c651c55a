"""The sections of the report: each turns data into a piece of HTML, with words for someone who never heard of AdA."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

import yaml

from ada_trainer.evaluation.result import AGENT, BESIDE_RANDOM, CLEARED, NOOP, RANDOM, Evaluation
from ada_trainer.evaluation.statistics import Interval
from ada_trainer.report.charts import Frame, Series, line_chart, number
from ada_trainer.report.curves import frames_to_reach, smoothed
from ada_trainer.report.data import ReportData, StageData, Video

AGENT_COLOURS = {AGENT: 0, CLEARED: 1, RANDOM: 2, NOOP: 3, BESIDE_RANDOM: 4}
SHOWN_TRIALS = (0, 1, 2, 4)

CURRICULUM_METRICS = {
    "num_rules": "rules in the game",
    "num_trials": "trials an episode",
    "min_rules_to_trigger": "rules that must fire",
    "hidden_critical_rules": "needed rules that are hidden",
    "dead_end_rules": "dead-end rules",
    "hidden_dead_end_rules": "dead-end rules that are hidden",
    "initial_objects": "objects at the start",
    "distractor_objects": "distractor objects",
    "dangerous_rules": "dangerous rules",
    "hidden_dangerous_rules": "dangerous rules that are hidden",
    "critical_dangerous_rules": "needed rules that are dangerous",
    "max_rule_repetitions": "times one rule must fire",
}


def headline(data: ReportData) -> str:
    """Say in words what the last judged stage shows."""
    judged = data.judged()
    if not judged:
        return '<p class="lead">No stage has been evaluated yet; this is an interim report.</p>'
    stage = judged[-1]
    evaluation = stage.evaluation
    assert evaluation is not None
    k = evaluation.claim_trials()
    if k is None or 1 not in evaluation.scores[AGENT]:
        return '<p class="lead">The evaluation has a single number of trials, so it can’t show adaptation.</p>'
    first, last = (evaluation.summary(AGENT, n).mean.value for n in (1, k))
    cleared = evaluation.summary(CLEARED, k).mean.value
    gains = (evaluation.gain_from_trials(), evaluation.gain_from_memory())
    remembers = ": what it finds out in one trial it remembers in the next" if all(map(_is_shown, gains)) else ""
    return f"""
<p class="lead">On {len(evaluation.tasks)} tasks it has never seen, the agent of stage <b>{escape(stage.stage.name)}</b>
spends {first:.0%} of its first trial in the goal. Given {k} trials of the same task it reaches {last:.0%} in the last,
without any further training{remembers}. The same agent with its memory emptied before every trial is at
{cleared:.0%}.</p>
<div class="answer">
{_verdict(f"Does it adapt? Trial {k} against a first trial", evaluation.gain_from_trials())}
{_verdict("Is it the memory? Against the same agent, memory emptied every trial", evaluation.gain_from_memory())}
</div>"""


def _verdict(question: str, gain: Interval | None) -> str:
    if gain is None:
        return f"<p>{question}: not measured.</p>"
    answer = "yes" if _is_shown(gain) else "not shown"
    return (
        f"<p>{question}: <b>{answer}</b>, {gain.value:+.3f} "
        f'<span class="range">[{gain.low:+.3f}, {gain.high:+.3f}]</span></p>'
    )


def _is_shown(gain: Interval | None) -> bool:
    return gain is not None and gain.low > 0


def scores(data: ReportData) -> str:
    """Show score by number of trials, next to the baselines, for each judged stage."""
    parts = ["<h2>Score by number of trials</h2>", "<p>", _WHAT_A_SCORE_IS, "</p>"]
    for stage in reversed(data.judged()):
        evaluation = stage.evaluation
        assert evaluation is not None
        parts += [
            f"<h3>{escape(stage.stage.name)}</h3><figure>",
            score_chart(evaluation),
            f"<figcaption>Mean over {len(evaluation.tasks)} held-out tasks; bands are 95% bootstrap intervals over "
            "tasks.</figcaption></figure>",
            _score_table(evaluation),
            _probe_table(evaluation),
        ]
    return "\n".join(parts)


_WHAT_A_SCORE_IS = (
    "An <i>episode</i> is k <i>trials</i> of one task: the world begins anew each trial, the agent’s memory does not. "
    "The score is the share of the last trial’s time in which the goal holds. Tasks, worlds and games here are held "
    "out: none was trained on."
)


def score_chart(evaluation: Evaluation) -> str:
    """Draw mean last-trial scores by number of trials, one line an agent, with their intervals."""
    series = []
    for agent, by_trials in evaluation.scores.items():
        means = [evaluation.summary(agent, k).mean for k in sorted(by_trials)]
        series.append(
            Series(
                agent,
                sorted(by_trials),
                [m.value for m in means],
                AGENT_COLOURS[agent],
                [m.low for m in means],
                [m.high for m in means],
                dashed=agent in (RANDOM, NOOP),
            )
        )
    ticks = sorted({k for by_trials in evaluation.scores.values() for k in by_trials})
    frame = Frame("number of trials k", "score of the last trial", 760, 340, 0.0, x_ticks=ticks, markers=True)
    return line_chart(series, frame)


def _score_table(evaluation: Evaluation) -> str:
    ks = sorted(evaluation.scores[AGENT])
    rows = []
    for agent, by_trials in evaluation.scores.items():
        for label in ("mean", "median", "percentile20") if agent == AGENT else ("mean",):
            cells = [_cell(getattr(evaluation.summary(agent, k), label)) if k in by_trials else "" for k in ks]
            name = "20th percentile" if label == "percentile20" else label
            rows.append([f"{escape(agent)}, {name}", *cells])
    return _table(["", *(f"k = {k}" for k in ks)], rows)


def _probe_table(evaluation: Evaluation) -> str:
    if not evaluation.probes:
        return ""
    ks = sorted(evaluation.scores[AGENT])
    rows = [
        [escape(name), *(f"{by_trials[k].mean():.3f}" for k in ks)] for name, by_trials in evaluation.probes.items()
    ]
    about = "Probe tasks: hand-drawn, each with its name. Mean score of the agent’s last trial."
    return f"<p>{about}</p>" + _table(["", *(f"k = {k}" for k in ks)], rows)


def _cell(interval: Interval) -> str:
    return f'{interval.value:.3f} <span class="range">[{interval.low:.3f}, {interval.high:.3f}]</span>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def videos(data: ReportData) -> str:
    """Show held-out tasks being played."""
    if not data.videos:
        return ""
    return "<h2>Watch it</h2>" + "".join(_video(video) for video in data.videos)


def _video(video: Video) -> str:
    rules = "".join(f"<li>{escape(rule)}</li>" for rule in video.rules) or "<li>none</li>"
    picture = base64.b64encode(video.gif).decode()
    return f"""
<figure><img class="video" alt="{escape(video.caption)}" src="data:image/gif;base64,{picture}">
<figcaption>{escape(video.caption)}</figcaption></figure>
<p><b>Goal:</b> {escape(video.goal)} <b>Rules</b> of this world (task {escape(video.task)}):</p><ul>{rules}</ul>"""


def learning(data: ReportData) -> str:
    """Show the learning curves of each stage, one line a trial index."""
    parts = [
        "<h2>Learning curves</h2><p>Score during training, by index of the trial. While the lines lie on one another "
        "the agent has a skill but no use for its memory; when later trials rise above the first, it has learned to "
        'adapt.</p><div class="pair">'
    ]
    for stage in data.stages:
        lines = []
        for colour, trial in enumerate(SHOWN_TRIALS):
            xs, ys = stage.trial_curve(trial)
            lines.append(Series(f"trial {trial + 1}", xs, ys, (2, 5, 4, 0)[colour]))
        frame = Frame("frames", "training score by trial", 460, 260, 0.0)
        name = escape(stage.stage.name)
        parts.append(f'<figure class="small"><figcaption>{name}</figcaption>{line_chart(lines, frame)}</figure>')
    return "\n".join([*parts, "</div>"])


def stages(data: ReportData) -> str:
    """Compare the stages: teacher and student side by side."""
    rows = []
    for stage in data.stages:
        teacher = stage.stage.distillation
        reached = frames_to_teacher(stage, data)
        rows.append(
            [
                escape(stage.stage.name),
                f"{stage.stage.model.core}, {stage.stage.model.preset}",
                number(stage.parameters),
                escape((teacher.teacher or "a checkpoint") if teacher else "none"),
                number(stage.frames),
                f"{stage.seconds():.0f} s",
                "" if reached is None else number(reached),
            ]
        )
    header = [
        "stage",
        "memory, size",
        "parameters",
        "teacher",
        "frames",
        "training time",
        "frames to the first stage’s final score",
    ]
    return (
        "<h2>Teacher and student</h2><p>A student imitates its teacher on its own experience for its first frames "
        "(kick-starting), then goes on by reinforcement learning alone.</p>" + _table(header, rows)
    )


def frames_to_teacher(stage: StageData, data: ReportData) -> float | None:
    """Return the frames at which a stage's smoothed training score reached the first stage's last one, or None."""
    target = smoothed(*data.stages[0].curve("score"))
    return frames_to_reach(smoothed(*stage.curve("score")), target[-1][1]) if target else None


def curriculum(data: ReportData) -> str:
    """Show what the curriculum chose: the twelve measures of AdA's emergent curriculum."""
    colours = {stage.stage.name: (1, 0, 4, 5)[index % 4] for index, stage in enumerate(data.stages)}
    legend = ", ".join(f'<b style="color:var(--c{c})">{escape(name)}</b>' for name, c in colours.items())
    parts = [
        "<h2>What the curriculum chose</h2><p>Means over the tasks trained on, as training went on "
        f"({legend}). A curriculum that works moves towards what the agent can just about learn from.</p>"
        '<div class="grid-of">'
    ]
    for key, words in CURRICULUM_METRICS.items():
        lines = [Series(s.stage.name, *s.curve(key), colours[s.stage.name]) for s in data.stages]
        chart = line_chart(lines, Frame("frames", words, 280, 150, direct_labels=False))
        parts.append(f'<figure class="small"><figcaption>{escape(words)}</figcaption>{chart}</figure>')
    return "\n".join([*parts, "</div>"])


def record(data: ReportData) -> str:
    """Show where the numbers come from: code, packages, configuration, seeds, machine, time."""
    parts = ["<h2>Run record</h2>"]
    for entry in data.records:
        parts.append(_record_entry(entry))
    document = data.experiment.model_dump(mode="json", by_alias=True, exclude={"status"})
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    parts.append(
        f"<details><summary>The experiment, every default filled in</summary><pre>{escape(text)}</pre></details>"
    )
    return "\n".join(parts)


def _record_entry(entry: Mapping[str, object]) -> str:
    short = {k: v for k, v in entry.items() if not isinstance(v, dict | list) and k != "diff"}
    rows = [[escape(str(k)), escape(str(v))] for k, v in short.items()]
    long = {k: v for k, v in entry.items() if isinstance(v, dict | list)}
    folded = "".join(
        f"<details><summary>{escape(key)}</summary><pre>{escape(json.dumps(value, indent=1))}</pre></details>"
        for key, value in long.items()
    )
    diff = entry.get("diff")
    if isinstance(diff, str) and diff:
        folded += f"<details><summary>uncommitted changes</summary><pre>{escape(diff)}</pre></details>"
    return f"<h3>{escape(str(entry.get('stage', '')))}</h3>" + _table(["", ""], rows) + folded

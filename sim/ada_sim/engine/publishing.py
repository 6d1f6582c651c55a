"""What a world's step tells goes to the arrays of the batch."""

import numpy as np
from numba import njit

from ada_sim.constants import TRIAL_SLOTS
from ada_sim.engine.observing import tell_body, tell_objects, tell_ranges, tell_timers

f32 = np.float32


@njit(inline="always", error_model="numpy")
def publish(w, t, told, out, rows, b, symbolic):  # type: ignore[no-untyped-def]
    """Write what the step of world b tells; zeros where no episode runs.

    Inlined into its caller: passing the many arrays of `out` would cost more than what is written. What is the same
    all through an episode or trial is written when that begins.
    """
    out.trial_ended[b] = told.trial_ended
    out.episode_ended[b] = told.episode_ended != 0
    out.episode_started[b] = told.episode_started != 0
    out.active[b] = w.active != 0
    for p in range(out.reward.shape[1]):
        out.reward[b, p] = told.reward[p]
        if not w.active:
            w.told[p] = 0
            out.objects[b, p] = f32(0.0)
            out.ranges[b, p] = f32(0.0)
            out.body[b, p] = f32(0.0)
            out.goal[b, p] = 0
            out.rules[b, p] = 0
            out.last_action[b, p] = 0
            out.last_reward[b, p] = f32(0.0)
            out.trials_remaining[b, p] = f32(0.0)
            out.timers[b, p] = f32(0.0)
            out.trial_start[b, p] = f32(0.0)
            continue
        if told.episode_started:
            for field in range(out.goal.shape[2]):
                out.goal[b, p, field] = t.shown_goal[p, field]
            for r in range(out.rules.shape[2]):
                for field in range(out.rules.shape[3]):
                    out.rules[b, p, r, field] = t.shown_rules[p, r, field]
        if w.clock == 0:
            for slot in range(TRIAL_SLOTS):
                out.trials_remaining[b, p, slot] = f32(0.0)
            out.trials_remaining[b, p, min(t.trials - 1 - w.trial, TRIAL_SLOTS - 1)] = f32(1.0)
        out.last_reward[b, p, 0] = told.last_reward[p]
        out.trial_start[b, p, 0] = f32(1.0) if w.clock == 0 else f32(0.0)
        for n in range(told.last_action.shape[1]):
            out.last_action[b, p, n] = told.last_action[p, n]
        tell_timers(w, t, rows.timers[b, p])
        tell_body(w, p, rows.body[b, p])
        if symbolic:
            tell_objects(w, t, told, p, rows.sight[b, p])
            tell_ranges(w, t, told, p, rows.ranges[b, p])

"""One world's step is copied from the record that systems write to the arrays of the batch."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(inline="always", error_model="numpy")
def publish(w, t, told, out, b, symbolic):  # type: ignore[no-untyped-def]
    """Copy what the step of world b told; zeros where no episode runs.

    Inlined into its caller: passing the many arrays of `out` would cost more than the copy.
    """
    out.trial_ended[b] = told.trial_ended
    out.episode_ended[b] = told.episode_ended != 0
    out.episode_started[b] = told.episode_started != 0
    out.active[b] = w.active != 0
    for p in range(out.reward.shape[1]):
        out.reward[b, p] = told.reward[p]
        if not w.active:
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
        out.last_reward[b, p, 0] = told.last_reward[p]
        out.trial_start[b, p, 0] = told.trial_start[p]
        for n in range(told.last_action.shape[1]):
            out.last_action[b, p, n] = told.last_action[p, n]
        for n in range(told.timers.shape[1]):
            out.timers[b, p, n] = told.timers[p, n]
        for n in range(told.body.shape[1]):
            out.body[b, p, n] = told.body[p, n]
        for n in range(told.trials_remaining.shape[1]):
            out.trials_remaining[b, p, n] = told.trials_remaining[p, n]
        if symbolic:
            for n in range(told.ranges.shape[1]):
                out.ranges[b, p, n] = told.ranges[p, n]
            for slot in range(told.objects.shape[1]):
                for n in range(told.objects.shape[2]):
                    out.objects[b, p, slot, n] = told.objects[p, slot, n]

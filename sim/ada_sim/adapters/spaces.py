"""The specification of observations and actions as Gymnasium spaces."""

from typing import Any

import numpy as np
from gymnasium import spaces

from ada_api.environment import Environment
from ada_sim.constants import ACTION_SIZES
from ada_sim.observation import Field, specification


def observation_space(environment: Environment) -> spaces.Dict:
    """Return the space of one player's observation."""
    return spaces.Dict({field.name: _box(field) for field in specification(environment)})


def action_space() -> spaces.MultiDiscrete:
    """Return the space of one player's action: a choice in each group."""
    return spaces.MultiDiscrete(np.array(ACTION_SIZES))


def _box(field: Field) -> "spaces.Box[Any]":
    low, high = np.array(field.low).astype(field.dtype), np.array(field.high).astype(field.dtype)
    shape = field.shape
    return spaces.Box(np.full(shape, low), np.full(shape, high), shape, dtype=field.dtype)

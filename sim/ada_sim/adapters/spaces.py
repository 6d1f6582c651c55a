"""The specification of observations and actions as Gymnasium spaces."""

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


def _box(field: Field) -> spaces.Box:
    kind = field.dtype.type
    return spaces.Box(kind(field.low), kind(field.high), field.shape, kind)

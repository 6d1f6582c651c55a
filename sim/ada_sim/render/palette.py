"""Colours, RGB 0 to 255."""

import numpy as np

OBJECT_RGB = np.array([[38, 38, 42], [150, 60, 205], [242, 205, 40]], np.float64)  # black, purple, yellow
PLAYER_RGB = np.array([[225, 95, 60], [60, 140, 225]], np.float64)
VISOR_RGB = np.array([240, 240, 240], np.float64)  # the side of a player that faces forward
SKY_RGB = np.array([150, 190, 225], np.float64)
FLOOR_RGB = np.array([112, 132, 96], np.float64)
RAMP_RGB = np.array([168, 146, 104], np.float64)
PIT_RGB = np.array([62, 66, 84], np.float64)
WALL_RGB = np.array([150, 108, 88], np.float64)
CLIFF_RGB = np.array([122, 118, 112], np.float64)  # the side of a higher level
LEVEL_BRIGHTER = 14.0  # each level's floor by this much
FOG_PER_M = 0.06

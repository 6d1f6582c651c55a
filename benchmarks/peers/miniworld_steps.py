"""MiniWorld: steps with a 96x72 picture and random actions, off screen."""

import sys

import protocol
import pyglet

pyglet.options["headless"] = True
import gymnasium  # noqa: E402
import miniworld  # noqa: E402, F401


def main():
    seconds = float(sys.argv[1])
    env = gymnasium.make("MiniWorld-FourRooms-v0", obs_width=96, obs_height=72, disable_env_checker=True)
    first, _ = env.reset(seed=0)

    def step():
        picture, _, ended, cut, _ = env.step(env.action_space.sample())
        if ended or cut:
            env.reset()
        return picture

    last = [step() for _ in range(50)][-1]
    if last.shape != (72, 96, 3) or (last == first).all():
        raise SystemExit(f"MiniWorld's pictures are {last.shape} and do not change")
    protocol.serve({"step": lambda: protocol.rate(step, 1, seconds)})


main()

"""ViZDoom: steps with a 160x120 RGB picture, its smallest, and random actions."""

import random
import sys

import protocol
import vizdoom


def main():
    seconds = float(sys.argv[1])
    game = vizdoom.DoomGame()
    game.load_config(f"{vizdoom.scenarios_path}/my_way_home.cfg")
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.init()
    buttons = game.get_available_buttons_size()
    actions = [[int(i == chosen) for i in range(buttons)] for chosen in range(buttons)]

    def step():
        if game.is_episode_finished():
            game.new_episode()
        picture = game.get_state().screen_buffer
        game.make_action(random.choice(actions))
        return picture

    first = step().copy()
    last = [step() for _ in range(50)][-1]
    if last.shape != (120, 160, 3) or (last == first).all():
        raise SystemExit(f"ViZDoom's pictures are {last.shape} and do not change")
    protocol.serve({"step": lambda: protocol.rate(step, 1, seconds)})
    game.close()  # it is a process of its own


main()

"""XLand-MiniGrid: steps of 1,024 worlds of R4-13x13 with random actions; rulesets drawn as its medium generator does.

The generator is a script of its repository and not in its package. What is here follows its settings for `medium`
(two levels of rules behind the goal, a tenth of the branches cut, up to three distractor rules, two distractor objects,
no ruleset twice) with the package's own rules and goals. XLand-MiniGrid's published rulesets are a download.
"""

import itertools
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import xminigrid
from xminigrid.core import goals, rules
from xminigrid.core.constants import Colors, Tiles
from xminigrid.types import RuleSet
from xminigrid.wrappers import GymAutoResetWrapper

LEVELS, CUT, DISTRACTOR_RULES, DISTRACTOR_OBJECTS = 2, 0.1, 3, 2
SIDES = ("", "Up", "Right", "Down", "Left")
SHAPES = (Tiles.BALL, Tiles.SQUARE, Tiles.PYRAMID, Tiles.KEY, Tiles.STAR, Tiles.HEX)
COLOURS = (
    *(Colors.RED, Colors.GREEN, Colors.BLUE, Colors.PURPLE, Colors.YELLOW),
    *(Colors.GREY, Colors.WHITE, Colors.BROWN, Colors.PINK, Colors.ORANGE),
)
MOVABLE = tuple(itertools.product(SHAPES, COLOURS))
ANY = (*MOVABLE, *((Tiles.GOAL, colour) for colour in COLOURS))
VANISH = (Tiles.FLOOR, Colors.BLACK)


def predicate(module, suffix, avoid, held, near, **more):
    """Draw one of the eleven rules, or goals, of a module; return it with its tiles."""
    kind = random.randrange(1 + 2 * len(SIDES))

    def choose(tiles):
        return random.choice([tile for tile in tiles if tile not in avoid])

    if kind <= len(SIDES):
        tile = choose(held if kind == 0 else near)
        name = "AgentHold" if kind == 0 else f"AgentNear{SIDES[kind - 1]}"
        return getattr(module, name + suffix)(tile=jnp.array(tile), **more), [tile]
    a, b = choose(ANY), choose(MOVABLE)
    name = f"TileNear{SIDES[kind - 1 - len(SIDES)]}{suffix}"
    return getattr(module, name)(tile_a=jnp.array(a), tile_b=jnp.array(b), **more), [a, b]


def draw_rule(product, avoid):
    return predicate(rules, "Rule", avoid, MOVABLE, MOVABLE, prod_tile=jnp.array(product))


def draw_ruleset():
    """Return (goal, rules, initial tiles)."""
    goal, wanted = predicate(goals, "Goal", (), MOVABLE, ANY)
    used, drawn, initial = set(wanted), [], []
    for level in range(LEVELS):
        inputs = []
        for tile in wanted:
            if random.random() < CUT:
                initial.append(tile)
                continue
            rule, tiles = draw_rule(tile, used)
            used.update(tiles)
            drawn.append(rule)
            inputs += tiles
        if level == LEVELS - 1:
            initial += inputs
        wanted = inputs
    initial += random.choices([tile for tile in ANY if tile not in used], k=DISTRACTOR_OBJECTS)
    for _ in range(random.randint(0, DISTRACTOR_RULES)):
        rule, tiles = draw_rule(random.choice([tile for tile in (*MOVABLE, VANISH) if tile not in used]), ())
        drawn.append(rule)
        initial += tiles
    return goal, drawn or [rules.EmptyRule()], initial


seen = set()


def draw_encoded():
    """Return a ruleset that was not drawn before, encoded."""
    while True:
        goal, drawn, initial = draw_ruleset()
        encoded = goal.encode(), jnp.vstack([rule.encode() for rule in drawn]), jnp.array(initial, dtype=jnp.uint8)
        key = tuple(jnp.concatenate([encoded[0], encoded[1].ravel()]).tolist())
        if key not in seen:
            seen.add(key)
            return encoded


def padded(arrays):
    whole = np.zeros((len(arrays), max(map(len, arrays)), arrays[0].shape[1]), np.uint8)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return jnp.asarray(whole)


def main():
    worlds, seconds, timesteps = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    random.seed(0)
    drawn = [draw_encoded() for _ in range(worlds)]
    rulesets = RuleSet(
        goal=jnp.asarray(np.stack([goal for goal, _, _ in drawn])),
        rules=padded([some for _, some, _ in drawn]),
        init_tiles=padded([tiles for _, _, tiles in drawn]),
    )
    env, parameters = xminigrid.make("XLand-MiniGrid-R4-13x13")
    env = GymAutoResetWrapper(env)

    def with_rules(ruleset):
        return parameters.replace(ruleset=ruleset)

    reset = jax.jit(jax.vmap(lambda ruleset, key: env.reset(with_rules(ruleset), key)))
    vmapped_step = jax.vmap(lambda ruleset, state, action: env.step(with_rules(ruleset), state, action))

    @jax.jit
    def unroll(timestep, actions):
        """Take actions [T, B]; the sums keep every output in use."""

        def body(carry, actions):
            timestep, reward, seen = carry
            timestep = vmapped_step(rulesets, timestep, actions)
            seen += timestep.observation.astype(jnp.int32).sum()
            return (timestep, reward + timestep.reward.sum(), seen), None

        start = (timestep, jnp.float32(0), jnp.int32(0))
        return jax.lax.scan(body, start, actions)[0]

    actions = jax.random.randint(jax.random.key(1), (timesteps, worlds), 0, env.num_actions(parameters))
    held = [reset(rulesets, jax.random.split(jax.random.key(0), worlds)), 0.0]

    def step():
        held[0], reward, _ = jax.block_until_ready(unroll(held[0], actions))
        held[1] += float(reward)

    before = np.asarray(held[0].state.agent.position)
    step()
    if (np.asarray(held[0].state.agent.position) == before).all():
        raise SystemExit("no world of XLand-MiniGrid moved")
    draw_encoded()
    protocol.serve(
        {
            "step": lambda: protocol.rate(step, worlds * timesteps, seconds),
            "generate": lambda: protocol.rate(draw_encoded, 1, seconds),
            "rules": lambda: float(rulesets.rules.shape[1]),
            "reward": lambda: held[1],
        }
    )


main()

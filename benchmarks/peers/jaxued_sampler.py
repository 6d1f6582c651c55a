"""JaxUED: sampling, updating and inserting levels in a full buffer, by rank of made-up scores; a level is a number."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import protocol

jax.tree_map = jax.tree.map  # jaxued 0.0.1 uses the name that later versions of JAX dropped
from jaxued.level_sampler import LevelSampler  # noqa: E402

BATCH = 4


def main():
    size, temperature, staleness = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    rng = np.random.default_rng(0)
    levels = LevelSampler(
        size, staleness_coeff=staleness, prioritization="rank", prioritization_params={"temperature": temperature}
    )
    sampler = levels.initialize(jnp.uint32(0))
    sampler = {
        **sampler,
        "levels": jnp.arange(size, dtype=jnp.uint32),
        "scores": jnp.asarray(rng.normal(size=size), jnp.float32),
        "timestamps": jnp.asarray(rng.integers(0, size, size), jnp.int32),
        "size": size,
        "episode_count": size,
    }
    held = [jax.tree.map(jnp.asarray, sampler), jax.random.key(0), 10.0]
    draw = jax.jit(lambda held, key: levels.sample_replay_levels(held, key, BATCH), donate_argnums=0)
    change = jax.jit(levels.update_batch, donate_argnums=0)
    add = jax.jit(levels.insert_batch, donate_argnums=0)

    def timed(work):
        def once():
            return 1 / protocol.rate(work, BATCH, 0.3)

        work()
        return once

    def sample():
        held[1], key = jax.random.split(held[1])
        held[0], (chosen, _) = jax.block_until_ready(draw(held[0], key))
        if not (0 <= int(chosen[0]) < size):
            raise SystemExit("JaxUED drew no level")

    def update():
        places = jnp.asarray(rng.integers(0, size, BATCH))
        held[0] = jax.block_until_ready(change(held[0], places, jnp.asarray(rng.normal(size=BATCH), jnp.float32)))

    def insert():
        held[2] += 1.0  # fitter than all, so that every one replaces a level
        fresh = jnp.asarray(rng.integers(size, 1 << 31, BATCH), jnp.uint32)
        held[0], _ = jax.block_until_ready(add(held[0], fresh, jnp.full(BATCH, held[2], jnp.float32)))

    protocol.serve({"draw": timed(sample), "update": timed(update), "insert": timed(insert)})


main()

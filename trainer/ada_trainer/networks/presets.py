"""Widths and depths by name. `6m` to `265m` are AdA's table D.6, named by the parameters of the transformer alone.

AdA counts 12 * L * D^2 parameters: four D x D projections of attention, and a feed-forward of 8 D^2.
"""

from dataclasses import dataclass

from ada_api.stages import AgentModel, Preset
from ada_trainer.exits import ConfigurationError


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of one network."""

    width: int  # D
    layers: int  # L
    heads: int  # N; D / N is the width of a head
    memory: int  # M, cached timesteps a layer
    embedding: int  # width of encoded objects, goals, rules and of the object reader
    model_width: int = 64  # W, of the LSTM of Muesli's model and of its heads; 1000 in AdA


PRESETS: dict[Preset, Sizes] = {
    "nano": Sizes(width=64, layers=2, heads=4, memory=60, embedding=32, model_width=64),
    "micro": Sizes(width=96, layers=2, heads=4, memory=120, embedding=32, model_width=96),
    "small": Sizes(width=192, layers=4, heads=4, memory=300, embedding=64, model_width=192),
    "6m": Sizes(width=288, layers=6, heads=6, memory=300, embedding=128, model_width=1000),
    "23m": Sizes(width=576, layers=6, heads=12, memory=300, embedding=128, model_width=1000),
    "42m": Sizes(width=768, layers=6, heads=24, memory=300, embedding=256, model_width=1000),
    "57m": Sizes(width=896, layers=6, heads=28, memory=300, embedding=256, model_width=1000),
    "75m": Sizes(width=1024, layers=6, heads=32, memory=300, embedding=256, model_width=1000),
    "169m": Sizes(width=1536, layers=6, heads=32, memory=300, embedding=256, model_width=1000),
    "265m": Sizes(width=1920, layers=6, heads=40, memory=300, embedding=256, model_width=1000),
}


def sizes_of(model: AgentModel) -> Sizes:
    """Return the preset's sizes with what the model sets explicitly; raises ConfigurationError if they do not fit."""
    preset = PRESETS[model.preset]
    sizes = Sizes(
        width=model.width or preset.width,
        layers=model.layers or preset.layers,
        heads=model.heads or preset.heads,
        memory=model.memory or preset.memory,
        embedding=preset.embedding,
        model_width=preset.model_width,
    )
    if sizes.width % sizes.heads:
        raise ConfigurationError(
            f"model.width {sizes.width} is not a multiple of model.heads {sizes.heads}: "
            "set one of them so that it divides"
        )
    return sizes

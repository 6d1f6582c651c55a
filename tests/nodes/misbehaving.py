"""How an experiment is set up whose programs are stubs (tests/nodes/stub)."""

from tests.cluster.images import MOUNTED, PYTHON

from ada_operator.observed import Platform

PLATFORM = Platform(
    **dict.fromkeys(("curriculum_image", "trainer_image", "simulator_image"), PYTHON),
    default_store="file:///store",
    python=("env", f"PYTHONPATH={MOUNTED}/stub", "python"),
)

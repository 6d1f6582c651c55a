"""`ada operator`: the operator in a cluster."""

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the operator; kopf and the Kubernetes client are loaded only here."""
    from ada_operator import program

    return int(program.main(list(arguments)) or 0)

"""`python -m ada_sim serve ...` serves worlds; `tasks ...` shows and checks tasks; `compile` compiles once for all."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the command line to the program it names; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ada_sim", description=__doc__)
    parser.add_argument("program", choices=("serve", "tasks", "compile"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.program == "serve":
        from ada_sim import server  # both load compiled parts: not for --help

        return server.main(options.arguments)
    if options.program == "compile":
        from ada_sim import compiling

        return compiling.main(options.arguments)
    from ada_sim.tasks import cli

    return cli.main(options.arguments)


if __name__ == "__main__":
    sys.exit(main())

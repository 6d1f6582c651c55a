"""`python -m ada_operator.cli`: the `ada` command without its script."""

from ada_operator.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Stands for `python -m ada_curriculum`."""

import stub

stub.main(7101)

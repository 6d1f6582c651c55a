"""Stands for `python -m ada_sim`."""

import stub

stub.main(7103)

"""Stands for `python -m ada_trainer`."""

import sys

import stub

stub.main(7102 if sys.argv[1] == "rendezvous" else 7104)

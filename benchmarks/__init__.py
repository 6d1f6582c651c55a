"""Our speed beside named yardsticks, in one run on the same cores. Never part of the tests."""

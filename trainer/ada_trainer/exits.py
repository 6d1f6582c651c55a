"""How a program of the trainer ends: exit codes, and the errors that stand for them (docs/interfaces.md)."""

EXIT_DONE = 0
EXIT_TROUBLE = 1  # of our own, budgeted
EXIT_USAGE = 2
EXIT_STOPPED = 75  # told to stop, state committed
EXIT_REGROUP = 76  # only between worker and agent: the group lost or releases a member; not counted
EXIT_CONFIGURATION = 78


class ConfigurationError(Exception):
    """What we were given can't work, however often it is tried; the message says why and what would help."""


class RegroupError(Exception):
    """The group can't go on as it is: a peer is gone. The rest meets again."""

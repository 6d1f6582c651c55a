"""Loaded by the template process alone: ties it to its agent and loads what workers need. Nothing may compute here."""

import os

from ada_trainer.elastic.names import AGENT_VARIABLE, TEMPLATE_VARIABLE
from ada_trainer.elastic.processes import die_with_parent

die_with_parent(int(os.environ[AGENT_VARIABLE]))
os.environ[TEMPLATE_VARIABLE] = str(os.getpid())

import ada_curriculum.s3  # noqa: E402, F401 - after the tie to the agent: this takes seconds
import ada_trainer.loop  # noqa: E402, F401

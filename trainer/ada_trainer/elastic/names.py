"""Names that an agent and its workers share."""

MEMBERSHIP_KEY = "ada/membership"  # in torch's store of one round
MEMBERSHIP_VARIABLE = "ADA_MEMBERSHIP"  # a name that no other round of any group has
AGENT_VARIABLE = "ADA_AGENT_PROCESS"
TEMPLATE_VARIABLE = "ADA_TEMPLATE_PROCESS"  # of which each worker is a copy
TRAINING_KEY = "training"  # of the rendezvous id: the membership that trained last

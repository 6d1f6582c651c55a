"""One machine in place of a cluster: the same plan, carried out with processes for pods."""

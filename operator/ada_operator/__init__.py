"""The operator: one pure plan for an experiment, a cluster and a machine that carry it out, the `ada` command."""

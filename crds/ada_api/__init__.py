"""The AdaExperiment resource: the one source of its schema, defaults, bounds and descriptions.

Every other package imports these models; this package imports pydantic alone.
"""

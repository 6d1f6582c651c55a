"""Losses and returns as functions of tensors."""

"""Evaluation of the models by the field's protocols."""

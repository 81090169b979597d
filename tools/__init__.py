"""Beside the lecture: planning memory, exporting a model, benches, and the audit of the tasks."""

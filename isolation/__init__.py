"""How `sandbox.py` keeps its promise: the worker process, and the system calls behind the layers."""

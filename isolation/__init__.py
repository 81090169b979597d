"""How `sandbox.py` keeps its promises: the worker process, the trainer's handle on it, the system calls."""

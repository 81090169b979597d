"""How `sandbox.py` keeps its promises: the worker process, the trainer's side of it, the system calls."""

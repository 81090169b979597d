"""The 144 tasks as data: importing a family registers its tasks (see `tasks.py`)."""

"""Template tasks."""

"""On top of the lecture: the whole story of a model, ablations, the report page, a teacher, models behind a server."""

"""On top of the lecture: whole stories, ablations, the report page, a teacher, models behind a server."""

"""The study: full nested searches on the built-in images, whose tables the lessons read."""

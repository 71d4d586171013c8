"""One run of a recipe: its session, its record, where its events go."""

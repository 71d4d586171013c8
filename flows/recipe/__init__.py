"""The recipe, the table of stages, and what they plan."""

"""The markup of wikis to text, a step a file; `render.py` has their order."""

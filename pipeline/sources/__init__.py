"""Raw files to documents, a module per kind of source."""

"""Pages found, or judged, by a classifier that is taught with examples."""

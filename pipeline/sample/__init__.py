"""Gathers the sample corpora: real text, none of it kept in the project."""

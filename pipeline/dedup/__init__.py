"""Copies: exact, near, of sentences, and of evaluation sets."""

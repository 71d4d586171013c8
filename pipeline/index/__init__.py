"""Text back to the documents it stands in: a suffix array over the training tokens, and what is asked of it."""

"""Text out of HTML: the tree that Resiliparse builds, read as a flat table of blocks by compiled loops."""

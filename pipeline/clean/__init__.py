"""Quality rules: Gopher, C4, FineWeb, addresses, mending."""

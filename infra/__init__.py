"""Layer 0: storage, the artifact store, supervision, tracking and settings. Imports no other layer."""

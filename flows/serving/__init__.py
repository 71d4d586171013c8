"""`deepmill serve`: an OpenAI-compatible front before an engine that follows the registry."""

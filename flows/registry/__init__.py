"""The model registry: names, registration, gates, promotion, audit."""

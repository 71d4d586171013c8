"""Layer 3: the recipe, the stage table, Prefect flows, the command line and the report."""

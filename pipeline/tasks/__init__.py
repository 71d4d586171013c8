"""Documents between stages, and the executors that run a stage's tasks."""

"""What people read of a run: the report, the summary, the charts."""

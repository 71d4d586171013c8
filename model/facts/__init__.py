"""What the stages of this layer find and report: models of their JSON, without torch."""

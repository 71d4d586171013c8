"""What a training costs and how to spread it, without torch."""

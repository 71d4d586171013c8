"""What a model can do, measured on what it was not trained on."""

"""From a trained model to what is served: quantized, pruned, exported, verified."""

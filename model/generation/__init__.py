"""Text from a model: sampling, decoding, solving tasks."""

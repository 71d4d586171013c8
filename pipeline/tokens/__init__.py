"""Tokenizer, token shards, and the reader that training has of them."""

"""Layer 1: raw text to Parquet token shards. Never imports torch, except in `pipeline.tokens.reader`."""

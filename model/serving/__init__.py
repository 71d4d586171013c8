"""Engines that answer requests, each a process of its own."""

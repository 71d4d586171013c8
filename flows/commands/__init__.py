"""The command line, a module of commands each."""

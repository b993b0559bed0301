"""The command line: a file per command that parses, calls and prints. The exit code is the verdict."""

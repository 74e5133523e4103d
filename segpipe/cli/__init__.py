"""The command `segpipe` and its subcommands."""

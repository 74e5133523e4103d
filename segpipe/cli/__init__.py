"""The command `segpipe`: subcommands in one grammar, one runner, one line for each error."""

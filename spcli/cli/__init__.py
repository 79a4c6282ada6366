"""The command line: parses, calls the library once, prints. One file a command; `group.COMMANDS` is their table."""

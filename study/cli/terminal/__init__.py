"""What stands between the commands and the terminal: printed lines, progress, interrupts, streams without secrets."""

"""Commands that work on people's files, for the console."""

"""The commands: options and help. Nothing here imports torch; `run` imports the work."""

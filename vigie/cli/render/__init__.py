"""The output of commands: events, rows and backtests as tables, text, files and plots."""

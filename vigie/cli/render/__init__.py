"""What commands print: events, rows and backtests, as tables, sentences, files and pictures."""

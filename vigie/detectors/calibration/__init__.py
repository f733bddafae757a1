"""From raw scores to p-values, their combination, trends, and the sensors behind them."""

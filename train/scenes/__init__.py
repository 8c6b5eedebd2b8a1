"""The drawn world of text to video: who is seen, what they do, and what happens behind them."""

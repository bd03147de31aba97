"""What leaves training: the stock student."""

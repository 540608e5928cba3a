"""What every room may use: names that stay when classes move."""

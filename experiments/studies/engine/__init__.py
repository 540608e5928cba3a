"""The engines side by side, and what one candidate costs by its number of rows."""

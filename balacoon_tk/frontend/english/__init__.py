"""English as it is written and as it is said: numbers, signs, capitals, and words that meet."""

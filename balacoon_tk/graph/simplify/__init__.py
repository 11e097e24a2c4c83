"""What a graph is freed of, so that the analysis can read it."""

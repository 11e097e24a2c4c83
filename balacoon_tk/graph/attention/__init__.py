"""Attention whose mask bounds what a query sees: found in a graph, understood, and made one node of."""

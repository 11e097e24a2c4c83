"""Rewrites of a graph, one per file."""

"""Smaller and faster voices within a budget of quality."""

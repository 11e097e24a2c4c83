"""When to give how much: chunk sizes from what a machine was measured to take."""

"""Reading a graph: axes and rates, receptive field, streamability."""

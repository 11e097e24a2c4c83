"""What exporters spell out in many nodes, found as the one thing that it is."""

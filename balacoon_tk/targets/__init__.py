"""What voices are compiled for: each target has its costs, its passes and its form in a folder of its own."""

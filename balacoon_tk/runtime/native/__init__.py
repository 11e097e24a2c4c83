"""The native engine: programs of fused stages, and the C that runs them."""

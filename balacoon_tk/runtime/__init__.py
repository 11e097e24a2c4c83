"""What runs graphs: sessions, state, threads, and the scheduler of streams."""

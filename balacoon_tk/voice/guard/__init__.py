"""What is looked at before anything of a voice is run: its graphs, and its native program."""

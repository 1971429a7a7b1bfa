"""Which raw frames make one master, and which master serves a frame."""

"""What of earlier runs still holds: keys, origins, and what was done so far."""

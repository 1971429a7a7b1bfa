"""What a night is told: its configuration, every key with its meaning and its default."""

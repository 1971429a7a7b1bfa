"""What a night will make, known from headers alone: frames, products, their masters, and why."""

"""Other packages' calls on daskcal's engine, for scripts that were written for them."""

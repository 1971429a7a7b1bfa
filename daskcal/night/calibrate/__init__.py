"""How the frames of a product are calibrated: steps, masks and masters, as the config says."""

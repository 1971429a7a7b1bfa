"""Where a night's products lie, here or behind a URL, and who may write there."""

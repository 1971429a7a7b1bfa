"""From files to lazy frames: one Dataset over the pixels of many files, cut as work wants it."""

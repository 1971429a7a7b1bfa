"""Make what a plan says: masters, science frames in groups, and the record of it."""

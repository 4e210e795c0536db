"""Data sets that a seeded program makes, the same bytes on every machine: drawn pets, and slices through heads."""

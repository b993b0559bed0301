"""Released products, kept to be run: upgrades from each, and each beside the one that comes after it."""

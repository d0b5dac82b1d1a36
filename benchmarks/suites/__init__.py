"""One module for each suite; each has ``run(options) -> Report``."""

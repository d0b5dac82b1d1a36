"""One file for each peer, written the way its users would. Each runs in a separate process."""

"""One file for each peer, written the way its own users write it. Each is run as a process of its own."""

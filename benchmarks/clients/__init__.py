"""accucheck's own entries, each run as a process of its own."""

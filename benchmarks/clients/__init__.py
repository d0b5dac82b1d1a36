"""accucheck's own clients. Each runs in a separate process."""

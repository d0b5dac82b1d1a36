"""``python -m accucheck``: the command line."""

import sys

from accucheck.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Find an account's unknown rate limit and stay just under it: ``RateController``."""

from accucheck._rate._controller import RateController
from accucheck._rate._phase import Phase

__all__ = ["Phase", "RateController"]

"""A simulated AccuAuth, to try accucheck on and to test it against.

It implements the vendor's whole contract over real HTTP. Every answer is a pure function of the number and a seed
(``truth``), so the output of any run can be verified. It imports nothing from the client, so it cannot mirror the
client's mistakes.
"""

try:
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"The sandbox needs {error.name}, which is not installed: pip install 'accucheck[sandbox]'"
    ) from error

from accucheck.sandbox._counts import Counts, InvoiceLine
from accucheck.sandbox._server import Sandbox, run, serve
from accucheck.sandbox._settings import Faults, Settings, Soft, parse_outage, parse_rate_at
from accucheck.sandbox._truth import Result, Script, Scripted, request_id, truth

__all__ = [
    "Counts",
    "Faults",
    "InvoiceLine",
    "Result",
    "Sandbox",
    "Script",
    "Scripted",
    "Settings",
    "Soft",
    "parse_outage",
    "parse_rate_at",
    "request_id",
    "run",
    "serve",
    "truth",
]

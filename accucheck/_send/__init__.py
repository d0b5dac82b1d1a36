"""One HTTP attempt over an httpx transport, as a reply value. The only room that knows httpx."""

from accucheck._send._sender import Sender
from accucheck._send._timeouts import Timeouts

__all__ = ["Sender", "Timeouts"]

"""Whom to trust when the caller does not say: the system, as ``curl`` and the system's own tools do."""

from __future__ import annotations

import os
import ssl

__all__ = ["default_context"]


def default_context() -> ssl.SSLContext:
    """Return a context that verifies chain and host name against the system's roots.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count as the system's, as OpenSSL has it. Where there are none at
    all (a bare container, a python.org build on macOS) certifi's roots, which httpx brings, take their place.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_certificate_directory():
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_certificate_directory() -> bool:
    """Whether OpenSSL has a directory of roots: it reads that late, so they are not in the store yet."""
    directory = ssl.get_default_verify_paths().capath
    return directory is not None and any(name.endswith(".0") for name in os.listdir(directory))

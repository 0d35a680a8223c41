"""Whom an upstream's certificate must please, and which one we show."""

import ssl

from relay.settings import SettingsError, UpstreamSettings


def tls_context(settings: UpstreamSettings) -> ssl.SSLContext:
    """TLS as that upstream wants it: the system's trust or its own, with or without our name.

    Raises:
        SettingsError: a certificate or key cannot be read, or they do not belong together.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as exc:
        raise _wrong(settings, "ca_file", exc) from exc
    if settings.cert_file:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_password)
        except (OSError, ValueError) as exc:
            raise _wrong(settings, "cert_file or key_file", exc) from exc
    return context


def _no_password() -> str:
    # Without this, OpenSSL would ask for one at the terminal and wait.
    raise ValueError("it is encrypted, and nobody is there to give its password")


def _wrong(settings: UpstreamSettings, what: str, exc: Exception) -> SettingsError:
    reason = getattr(exc, "strerror", None) or exc
    return SettingsError(f"{what} of the upstream '{settings.name}' cannot be used: {reason}")

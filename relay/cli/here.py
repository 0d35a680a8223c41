"""The relay that the settings here describe: what commands ask where no `--url` says otherwise."""

from relay.cli.terminal import fail
from relay.settings import Settings, SettingsError, load_settings


def settings_here(config: str | None = None, *, without: str) -> Settings:
    """The settings of `relay serve` in this folder; leaves the program when they are wrong.

    `without` is said then: how to do without them, or what was not done.
    """
    try:
        return load_settings(config=config)
    except SettingsError as exc:
        fail(f"{exc}\n{without}")


def api_here() -> str:
    """The base URL of its API."""
    return f"{settings_here(without='--url does without these settings').address}/v1"


def admin_here(
    url: str | None,
    admin_key: str | None,
    config: str | None = None,
    *,
    without: str = "--url and --admin-key do without these settings",
) -> tuple[str, str | None]:
    """Where it is, and its admin key, of which the settings tell what is None."""
    if url is not None and admin_key is not None:
        return url, admin_key
    settings = settings_here(config, without=without)
    if admin_key is None and settings.admin_key is not None:
        admin_key = settings.admin_key.get_secret_value()
    return url or settings.address, admin_key

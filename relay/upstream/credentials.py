"""Where the keys of an upstream come from."""

from relay.events import Observer, ignore
from relay.settings import UpstreamSettings
from relay.upstream.key import Keys
from relay.upstream.keypool import KeyPool
from relay.upstream.token_command import CommandToken
from relay.upstream.token_file import FileToken


def open_keys(settings: UpstreamSettings, observe: Observer = ignore) -> Keys:
    """The keys that the settings name. Reads and runs nothing until one is taken.

    Raises:
        SettingsError: token_command is no command.
    """
    if settings.token_command is not None:
        return CommandToken(settings)
    if settings.token_file is not None:
        return FileToken(settings.name, settings.token_file)
    return KeyPool(settings, observe=observe)

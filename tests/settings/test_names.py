"""`.env.example` says what there is."""

import re
from pathlib import Path

from relay.settings import Settings, env_example, leaves, variable
from relay.settings.names import TABLES

ROOT = Path(__file__).parent.parent.parent


def test_the_file_in_the_repository_is_up_to_date():
    message = "run `make lock`, which writes it"
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example(), message


def test_it_has_every_setting_but_the_tables():
    named = set(re.findall(r"^#(RELAY_\w+)=", env_example(), flags=re.MULTILINE))
    assert named == {variable(path) for path in leaves()} - {variable(table) for table in TABLES}


def test_every_line_with_a_value_holds_the_default(place):
    lines = re.findall(r"^#(RELAY_\w+=.+)$", env_example(), flags=re.MULTILINE)
    place.write(".env", "\n".join(lines))
    assert len(lines) > 20
    assert place.load() == Settings()


def test_the_whole_file_uncommented_is_the_defaults_too(place):
    place.write(".env", re.sub(r"^#RELAY", "RELAY", env_example(), flags=re.MULTILINE))
    assert place.load() == Settings()

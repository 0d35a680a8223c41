"""The tests say the same whatever is set in the shell of whoever runs them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROBE = """
import os
from relay.settings import load_settings

AT_IMPORT = load_settings().port

def test_it(tmp_path):
    assert (AT_IMPORT, load_settings(directory=tmp_path).admin_key) == (8000, None)
    assert not [name for name in os.environ if name.upper().startswith(("RELAY_", "OPENAI_"))]
"""


def test_settings_of_the_shell_do_not_reach_a_test(tmp_path: Path) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    shell = {
        "RELAY_PORT": "77",
        "RELAY_ADMIN_KEY": "ak-shell-0123456789",
        "relay_mode": "local",
        "RELAY_NO_SUCH_SETTING": "1",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", str(tmp_path), "-p", "conftest", str(probe)),
        ],
        cwd=tmp_path,
        env={**os.environ, **shell, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

'''The prompt of `relay chat`: messages of one line or of many.

    a line that ends in a backslash     goes on in the next
    """                                 begins and ends a block of lines
    Ctrl-C                              drops what was typed; twice on an empty line, it leaves
    Ctrl-D                              leaves

Line editing and the arrow keys are readline's; nothing is written to a file.
'''

import sys

from relay.cli.terminal import note

try:
    from readline import get_line_buffer
except ImportError:  # some Pythons are built without; then nothing is edited

    def get_line_buffer() -> str:
        """What stands on the line: unknown."""
        return ""


_FIRST, _MORE = "> ", "… "
_QUOTES = '"""'


def read_message() -> str | None:
    """The next message that is not empty, or None when the user leaves."""
    interrupts = 0
    while True:
        lines: list[str] = []
        try:
            _read_lines(lines)
        except EOFError:
            note("")
            return None
        except KeyboardInterrupt:
            note("")
            interrupts = 0 if lines or get_line_buffer() else interrupts + 1
            if interrupts == 2:
                return None
            if interrupts:
                note("Ctrl-C again, or Ctrl-D, leaves.")
            continue
        interrupts = 0
        message = "\n".join(lines).strip("\n")
        if message.strip():
            return message


def _read_lines(lines: list[str]) -> None:
    """Read one message; what has come of it stands in `lines` also when it is interrupted."""
    line = _read_line(_FIRST)
    if line.startswith(_QUOTES):
        line = line.removeprefix(_QUOTES)
        while not line.endswith(_QUOTES):
            lines.append(line)
            line = _read_line(_MORE)
        lines.append(line.removesuffix(_QUOTES))
        return
    while line.endswith("\\"):
        lines.append(line[:-1])
        line = _read_line(_MORE)
    lines.append(line)


def _read_line(prompt: str) -> str:
    if not sys.stdout.isatty():
        # Answers go to a file or a program: the prompt is not one of them.
        sys.stderr.write(prompt)
        sys.stderr.flush()
        prompt = ""
    return input(prompt)

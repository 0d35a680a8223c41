"""Runs `python -m relay` as often as it is told, each time in a process of its own.

    descriptors 0, 1, 2 and {"arguments": …, "directory": …, "environment": …}
        --> a fork, which has loaded all of relay already --> its exit status

Loading is most of what a short command takes, and there are hundreds in the tests. The fork is as
fresh as a new process is: loading relay does nothing (`test_layers`).
"""

import atexit
import gc
import json
import os
import pkgutil
import runpy
import socket
import sys
from importlib import import_module
from typing import NoReturn

MOST_BYTES = 1024 * 1024


def load() -> None:
    """Everything but what is for an extra."""
    import relay

    for module in pkgutil.walk_packages(relay.__path__, "relay."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            import_module(module.name)


def serve(orders: socket.socket) -> None:
    while True:
        said, descriptors, _, _ = socket.recv_fds(orders, MOST_BYTES, 3)
        if not said:
            return
        if not (child := os.fork()):
            orders.close()
            leave(become(descriptors, **json.loads(said)))
        for descriptor in descriptors:
            os.close(descriptor)
        orders.send(b"%d" % child)
        _, status = os.waitpid(child, 0)
        orders.send(b"%d" % os.waitstatus_to_exitcode(status))


def become(
    descriptors: list[int], arguments: list[str], directory: str, environment: dict[str, str]
) -> int:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["relay", *arguments]
    sys.path[0] = directory  # as of `python -m`
    try:
        runpy.run_module("relay", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return exit_status(ended.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def exit_status(code: str | int | None) -> int:
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code or 0


def leave(status: int) -> NoReturn:
    """End as a process does, but for taking everything apart, which takes as long as loading it."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    load()
    gc.freeze()  # or the first collection of each fork would copy all of it
    serve(socket.socket(fileno=int(sys.argv[1])))

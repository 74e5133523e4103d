"""`segpipe app`: web page served by Streamlit."""

import socket
from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import given_values
from segpipe.config.values import check_values
from segpipe.errors import ConfigError, require_extra

PAGE = Path(__file__).parents[1] / "app" / "main.py"


def run(config: DictConfig) -> None:
    """Serve the web page until it is stopped."""
    check_values(config)
    require_extra("app", "the web page")
    check_port(config.address, config.port)

    from click import Abort
    from streamlit.web import cli

    flags = [f"--server.port={config.port}", f"--server.address={config.address}"]
    values = given_values(without=("port", "address"))
    try:
        cli.main(["run", str(PAGE), *flags, "--", *values], prog_name="streamlit", standalone_mode=False)
    except Abort as stop:  # click raises it when interrupted
        raise KeyboardInterrupt("the web page was stopped") from stop


def check_port(address: str, port: int) -> None:
    """Refuse an address of another machine and a port in use.

    Raises:
        ConfigError: The page cannot be served there.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise ConfigError(
            f"address and port must be free on this machine, got {address} and {port} ({error.strerror}); choose another "
            "port, for example port=8502"
        ) from error

"""The command that serves studies to browsers and programs: serve."""

from pathlib import Path
from typing import Annotated

import typer

from krona_tune.api.printing import OF_THE_SERVICE, console
from krona_tune.cli import options
from krona_tune.record.remote.storage import storage_at
from krona_tune.refusal import Refusal

Host = Annotated[str, typer.Option(help="The host to listen on; one that other machines reach needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 for any free one.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the token that requests must know; or set KRONA_TUNE_TOKEN.")
]


def serve(
    storage: options.Storage = options.STUDIES,
    host: Host = "127.0.0.1",
    port: Port = 8300,
    token_file: TokenFile = None,
) -> None:
    """Serve a live page of each study, a REST interface, and orders to the studies that run, until Ctrl-C."""
    try:
        from krona_tune.service import web_server
        from krona_tune.service.access import read_token
    except ModuleNotFoundError as error:
        if error.name not in OF_THE_SERVICE:
            raise
        fix = "pip install 'krona_tune[service]'"
        raise Refusal("serve", f"needs the package {error.name}, which is not installed", fix) from None

    def ready(address: str) -> None:
        console.print(f"Serving {storage_at(storage)} at {address} until Ctrl-C", highlight=False, soft_wrap=True)

    web_server.serve(storage_at(storage), host, port, read_token(token_file), ready)

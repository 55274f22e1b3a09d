"""A Flask application that says hello, in the API's own gunicorn: the floor of answering a POST at all."""

import logging
from typing import Any, Final

import flask
from flask import Flask, Response

from api_service.server import Server
from api_service.settings import read_settings
from shared import runtime_dir
from shared.settings import settings_or_exit

BODY: Final = b'{"status":"accepted"}\n'


class HelloServer(Server):
    """The same processes, threads and sockets around another application."""

    def load_config(self) -> None:
        """Leave out what closes the API's own pool."""
        super().load_config()
        self.cfg.set("worker_exit", _nothing_to_close)

    def load(self) -> Flask:
        """Return the application; gunicorn calls this in each worker, after the fork."""
        app = Flask("hello")

        @app.post("/<path:path>")
        def hello(path: str) -> Response:  # noqa: ARG001 - whatever is asked for
            flask.request.get_data(cache=False)
            return Response(BODY, 202, content_type="application/json")

        @app.get("/health/ready")
        def ready() -> Response:
            return Response(BODY, content_type="application/json")

        return app


def _nothing_to_close(_server: Any, _worker: Any) -> None:
    return


def main() -> None:
    """Serve until SIGTERM."""
    settings = settings_or_exit("api_service", read_settings)
    logging.basicConfig(level="WARNING")
    with runtime_dir.held("notify-api") as directory:
        HelloServer(settings, directory.path).run()


if __name__ == "__main__":
    main()

"""Swagger UI, served from the package that carries it: no network, no inline script."""

from importlib.resources import files
from typing import Final

import flask
from flask import Blueprint, Response

from api_service import security_headers

blueprint: Final = Blueprint("docs", __name__)
_ASSETS: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "index.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Notification pipeline API</title>
  <link rel="stylesheet" href="/docs/swagger-ui.css">
  <link rel="stylesheet" href="/docs/index.css">
  <link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="/docs/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


@blueprint.get("/docs", strict_slashes=False)
def page() -> Response:
    """Return the page."""
    policy = {"Content-Security-Policy": security_headers.PAGE_POLICY}
    return Response(_PAGE, content_type="text/html; charset=utf-8", headers=policy)


@blueprint.get("/docs/start.js")
def start() -> Response:
    """Return the one script that is ours."""
    return Response(_START, content_type="text/javascript; charset=utf-8")


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """Return a file of Swagger UI, one of the few that the page names."""
    if name not in _ASSETS:
        flask.abort(404)
    content = (files("flask_swagger_ui") / "dist" / name).read_bytes()
    return Response(content, content_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=3600"})

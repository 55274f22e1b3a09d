"""What the OpenAPI document says about each operation."""

from typing import Any, Final

SEND: Final[dict[str, Any]] = {}
SHOW: Final[dict[str, Any]] = {}
LIST: Final[dict[str, Any]] = {}
CANCEL: Final[dict[str, Any]] = {}
LIVE: Final[dict[str, Any]] = {}
READY: Final[dict[str, Any]] = {}
METRICS: Final[dict[str, Any]] = {}

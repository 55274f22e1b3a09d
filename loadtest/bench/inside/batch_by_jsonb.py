"""The API with its batches written by the one statement that takes them as jsonb, as those with a key are."""

from api_service import __main__ as service
from api_service import accept


def main() -> None:
    """Run the API until SIGTERM."""
    if not hasattr(accept, "COPY_FROM_ROWS"):
        raise SystemExit("api_service.accept.COPY_FROM_ROWS is gone: say here what decides between COPY and jsonb now")
    accept.COPY_FROM_ROWS = 1_000_000  # type: ignore[misc]  # more rows than a batch may have
    service.main()


if __name__ == "__main__":
    main()

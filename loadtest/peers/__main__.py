"""`python -m loadtest.peers`: make the peers' environment from their lock, unless it is there and current."""

from loadtest.peers.environment import directory, install


def main() -> None:
    """Install and say so."""
    print(f"the peers' environment {'was made' if install() else 'is current'}: {directory()}")


if __name__ == "__main__":
    main()

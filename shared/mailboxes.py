"""Who an e-mail is from, as one text: an address, or a display name and an address in angle brackets."""


def mailbox(name: str, address: str) -> str:
    """Return the text of a name, empty for none, and an address."""
    return f"{name} <{address}>" if name else address


def split_mailbox(text: str) -> tuple[str, str]:
    """Return name and address of what `mailbox` made; anything else comes out as an address that is none."""
    name, bracket, address = text.rpartition(" <")
    return (name, address.removesuffix(">")) if bracket else ("", text)


def domain_of(text: str) -> str:
    """Return the domain of a mailbox."""
    return split_mailbox(text)[1].rpartition("@")[2]

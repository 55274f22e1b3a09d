"""Reading requests from bytes, however they are cut up."""

import pytest

from infra.local.http_server import MAX_BODY_BYTES, MAX_HEAD_BYTES, parse_request

HEAD = b"POST /hooks/a%20b?x=1&y=a%26b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nWebhook-Id:  n1 \r\n\r\n"


def test_a_request_is_read_with_its_query_headers_and_body() -> None:
    """Header names are lower case, values trimmed, what follows is left in the buffer."""
    request, used = parse_request(bytearray(HEAD + b"12345GET / "))

    assert request is not None
    assert (request.method, request.path, dict(request.query)) == ("POST", "/hooks/a b", {"x": "1", "y": "a&b"})
    assert (request.headers["webhook-id"], request.body) == ("n1", b"12345")
    assert used == len(HEAD) + 5


def test_half_a_request_is_not_one() -> None:
    """Wherever the network cuts it."""
    whole = HEAD + b"12345"

    requests = [parse_request(bytearray(whole[:length]))[0] for length in range(len(whole))]

    assert set(requests) == {None}


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"hello\r\n\r\n", "request line"),
        (b"GET / HTTP/2\r\n\r\n", "request line"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (f"POST / HTTP/1.1\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode(), "Content-Length"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, "head exceeds"),
    ],
)
def test_what_is_no_request_is_refused(head: bytes, fault: str) -> None:
    """Instead of being waited for forever."""
    with pytest.raises(ValueError, match=fault):
        parse_request(bytearray(head))

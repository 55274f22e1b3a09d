"""Endpoints' names: what they look like, and that nothing else is taken for one."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.endpoints import endpoint_id, endpoint_name


@given(st.uuids())
def test_a_name_leads_back_to_its_endpoint(id_: UUID) -> None:
    """Of 35 characters, none of which a path has to quote."""
    name = endpoint_name(id_)

    assert endpoint_id(name) == id_
    assert (len(name), name.isidentifier()) == (35, True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "ep_", "ep_" + "0" * 31, "ep_" + "0" * 33, "ep_" + "A" * 32, "EP_" + "0" * 32, "ep_" + "0" * 32 + "\n"),
        *("https://example.com/ep_" + "0" * 32, "ep_00000000-0000-0000-0000-000000000000", "ep_" + "٠" * 32),
    ],
)
def test_anything_else_is_no_name(text: str) -> None:
    """A URL least of all."""
    assert endpoint_id(text) is None

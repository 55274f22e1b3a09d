"""What the local stack hands on of the operator's environment."""

from pathlib import Path

import pytest

from infra.local.errors import LocalStackError
from infra.local.stack import Ports, Stack


def test_a_file_of_the_operators_leads_no_service_away_from_the_stack(tmp_path: Path) -> None:
    """A secret's file is read for it; one with an address has no effect, like the variable itself."""
    (tmp_path / "secret").write_text("whsec_of-the-operator\n")
    (tmp_path / "elsewhere").write_text("postgresql://elsewhere/db\n")
    given = {"WEBHOOK_SECRETS_FILE": str(tmp_path / "secret"), "DATABASE_URL_FILE": str(tmp_path / "elsewhere"),
             "KAFKA_SECURITY_PROTOCOL": "ssl", "SMTP_CA_FILE": "kept"}  # fmt: skip
    stack = Stack(tmp_path / "stack", Ports.choose({}), environ=given, say=lambda _: None)

    environ = stack.service_environ()
    keys = Path(stack.secrets_keys_file).read_text()
    stack.supervisor.close()

    assert environ["SECRETS_KEYS"] == keys
    assert environ["WEBHOOK_SECRETS"] == "whsec_of-the-operator"
    assert (environ["KAFKA_SECURITY_PROTOCOL"], environ["SMTP_CA_FILE"]) == ("plaintext", "kept")
    assert {"WEBHOOK_SECRETS_FILE", "DATABASE_URL_FILE"} & environ.keys() == set()
    assert environ["DATABASE_URL"].startswith("postgresql://postgres:")


def test_a_secrets_file_that_cannot_be_read_is_said_and_replaced_by_nothing(tmp_path: Path) -> None:
    """Another secret than the operator's would be found out late."""
    given = {"SECRETS_KEYS_FILE": str(tmp_path / "missing")}
    stack = Stack(tmp_path / "stack", Ports.choose({}), environ=given, say=lambda _: None)

    with pytest.raises(LocalStackError, match="SECRETS_KEYS_FILE"):
        stack.service_environ()
    stack.supervisor.close()

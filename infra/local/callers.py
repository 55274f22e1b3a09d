"""A tenant and a key of the local stack's own, made by the command that makes them everywhere."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from infra.local.errors import LocalStackError

TENANT = "local"
# What a load generator sets of the API it loads: requests are counted, and none is refused for being too many.
WITHOUT_LIMITS = {
    "RATE_LIMIT_KEYS": "1000000/second",
    "RATE_LIMIT_TENANTS": "1000000/second",
    "RATE_LIMIT_ACTIONS": "1000000/second",
    "RATE_LIMIT_ADMINS": "1000000/second",
}
_TIMEOUT_S = 60.0


def make_key(environ: Mapping[str, str], cwd: Path, *, tenant: str = TENANT) -> str:
    """Make a tenant, where it is missing, and a key of all scopes; return the key. Raises LocalStackError.

    `environ` has the DATABASE_URL of the owner. `cwd` is a directory without a .env that would say something else.
    """
    command = [sys.executable, "-m", "api_service.admin", "create-tenant", tenant, "--if-missing", "--operator"]
    command += ["--no-signing-secret"]  # the local receiver verifies with WEBHOOK_SECRETS
    command += ["--key", "local", "--json"]
    try:
        done = subprocess.run(
            command, env=dict(environ), cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LocalStackError(f"No API key could be made within {_TIMEOUT_S:.0f} s.") from None
    if done.returncode != 0:
        raise LocalStackError(f"No API key could be made: {done.stderr.strip()}")
    return str(json.loads(done.stdout)["api_key"]["key"])


def is_refused(api_url: str, key: str) -> bool:
    """Say whether the API refuses a key, as after its revocation; not when it cannot tell, or does not answer."""
    try:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.get(f"{api_url}/auth/me", headers=headers, timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 401

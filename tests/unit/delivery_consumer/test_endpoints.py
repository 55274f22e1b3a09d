"""What is known of endpoints, and whose secrets sign."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import orjson
import pytest
import standardwebhooks

from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError
from delivery_consumer.providers import FRESH_S, USABLE_S, Attempt, Place
from delivery_consumer.providers.endpoints import Endpoints
from delivery_consumer.providers.signing import signature
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import WebhookSettings
from shared.db.receivers import Endpoint, Found, Secret
from shared.key_rings import NamedKey
from shared.records import Record
from shared.secrets import Keyring
from tests.unit.delivery_consumer.fakes import Clock
from tests.unit.delivery_consumer.test_webhook import NOW, Handled, a_notification

KEYRING = Keyring([NamedKey("k1", b"K" * 32)])
ID = UUID("0190b5a4-7c1e-7000-8000-000000000001")
NAME = f"ep_{ID.hex}"
DEFAULT = b"d" * 32


def sealed_secret(key: bytes, *, tenant: str = "a", endpoint: UUID | None = ID, expires_in_s: float | None = None,
                  number: int = 7) -> Secret:  # fmt: skip
    """A secret as the table has it."""
    id_ = UUID(int=number)
    sealed = KEYRING.seal(key, table="signing_secrets", row_id=str(id_), tenant_id=tenant)
    return Secret(id_, tenant, endpoint, sealed, expires_in_s)


def an_endpoint(**fields: object) -> Endpoint:
    """An endpoint as the table has it."""
    values = {"id": ID, "tenant_id": "a", "url": "https://shop.example/hook?k=1", "sealed_headers": None,
              "rate_per_s": None, "timeout_s": None, "deleted": False}  # fmt: skip
    return Endpoint(**values | fields)  # type: ignore[arg-type]


def sealed_headers(headers: dict[str, str], *, id_: UUID = ID, tenant: str = "a") -> bytes:
    """Custom headers as the table has them."""
    return KEYRING.seal(orjson.dumps(headers), table="endpoints", row_id=str(id_), tenant_id=tenant)


@dataclass
class World:
    """Tables of endpoints and secrets, a directory over them, and a webhook provider over that."""

    endpoints: list[Endpoint] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)
    asked: list[tuple[list[tuple[str, UUID]], list[str]]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    processes: int = 1

    def __post_init__(self) -> None:
        self.directory = Endpoints(
            self._find, KEYRING, default_keys=[DEFAULT], processes=lambda: self.processes, clock=self.clock
        )
        settings = WebhookSettings((DEFAULT,), 15, (), 50)
        transport = Handled(lambda request: self.requests.append(request) or httpx.Response(200))  # type: ignore[func-returns-value]
        self.provider = WebhookProvider(settings, transport=transport, directory=self.directory, now=lambda: NOW)

    async def _find(self, endpoints: Sequence[tuple[str, UUID]], tenant_ids: Sequence[str]) -> Found:
        self.asked.append((sorted(endpoints), sorted(tenant_ids)))
        return Found(self.endpoints, self.secrets)  # more than was asked for: whose they are is looked at again

    async def send(self, record: Record) -> httpx.Request:
        """Send after looking up; the request that arrived."""
        await self.directory.look_up([record])
        await self.provider.send(record, Attempt(1))
        return self.requests[-1]


def to_endpoint(tenant: str = "a", **fields: object) -> Record:
    """A webhook notification for the endpoint."""
    return a_notification(tenant_id=tenant, recipient=NAME, **fields)


def signed_by(request: httpx.Request, *keys: bytes) -> bool:
    """Say whether these very keys have signed a request, in this order."""
    signed = signature(keys, webhook_id=request.headers["webhook-id"], timestamp=int(NOW), body=request.content)
    return request.headers["webhook-signature"] == signed


async def test_an_endpoint_is_a_url_with_headers_and_a_secret_of_its_own() -> None:
    """The notification names it; what it stands for is looked up."""
    headers = {"X-Shop": "7", "Host": "evil", "webhook-id": "forged"}
    world = World([an_endpoint(sealed_headers=sealed_headers(headers))], [sealed_secret(b"e" * 32)])

    request = await world.send(to_endpoint())

    assert str(request.url) == "https://shop.example/hook?k=1"
    assert request.headers.get_list("x-shop") == ["7"]
    assert request.headers.get_list("host") == ["shop.example"]
    assert request.headers.get_list("webhook-id") == ["0190b5a4-7c1e-7000-8000-000000000000"]
    assert signed_by(request, b"e" * 32)


async def test_an_endpoint_s_headers_win_whatever_their_case() -> None:
    """An admin set them: whoever may send adds to them, and replaces no credentials."""
    world = World([an_endpoint(sealed_headers=sealed_headers({"Authorization": "Bearer s3cret", "X-A": "its"}))])

    request = await world.send(to_endpoint(headers={"authorization": "Bearer forged", "x-a": "x", "X-B": "given"}))

    assert request.headers.get_list("authorization") == ["Bearer s3cret"]
    assert [request.headers.get_list(name) for name in ("x-a", "x-b")] == [["its"], ["given"]]


async def test_a_destination_shows_the_origin_alone() -> None:
    """As for a plain URL; before the first look-up nobody knows it."""
    world = World([an_endpoint()])
    record = to_endpoint()

    assert world.provider.place(record) is None
    await world.directory.look_up([record])

    assert world.provider.place(record) == Place("https://shop.example:443")
    world.clock.now += FRESH_S
    assert world.provider.place(record) is None
    assert world.provider.place(record, looked_up=True) == Place("https://shop.example:443")


@pytest.mark.parametrize(
    "endpoints",
    [[], [an_endpoint(deleted=True)], [an_endpoint(tenant_id="b")]],
    ids=["unknown", "deleted", "another tenant's"],
)
async def test_what_is_not_there_for_this_tenant_is_deleted(endpoints: list[Endpoint]) -> None:
    """Permanent; another tenant's is answered as an unknown one, and sent nothing."""
    world = World(endpoints)
    record = to_endpoint()
    await world.directory.look_up([record])

    with pytest.raises(PermanentDeliveryError, match="endpoint_deleted"):
        world.provider.place(record)
    with pytest.raises(PermanentDeliveryError, match="endpoint_deleted"):
        await world.provider.send(record, Attempt(1))
    assert world.requests == []


@pytest.mark.parametrize("name", ["ep_", "ep_x", f"ep_{ID}", f"ep_{ID.hex.upper()}", f"ep_{ID.hex}0"])
async def test_a_name_that_no_endpoint_can_have_is_not_asked_for(name: str) -> None:
    """It is deleted all the same."""
    world = World()
    record = a_notification(tenant_id="a", recipient=name)
    await world.directory.look_up([record])

    with pytest.raises(PermanentDeliveryError, match="endpoint_deleted"):
        world.provider.place(record)
    assert world.asked == [([], ["a"])]


async def test_both_secrets_sign_until_the_older_one_expires() -> None:
    """Row 51: two signatures while rotating, and the old secret refused afterwards; the reference library agrees."""
    world = World([an_endpoint()], [sealed_secret(b"n" * 32, number=2), sealed_secret(b"o" * 32, expires_in_s=3)])

    rotating = await world.send(to_endpoint())
    world.clock.now += 3.1
    await world.provider.send(to_endpoint(), Attempt(2))
    rotated = world.requests[-1]

    assert signed_by(rotating, b"n" * 32, b"o" * 32)
    assert signed_by(rotated, b"n" * 32)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(b"o" * 32).verify(rotated.content, dict(rotated.headers))


async def test_whose_secrets_sign() -> None:
    """An endpoint's own; else the tenant's; else those of the settings. Never another tenant's."""
    world = World([an_endpoint()], [])
    plain = a_notification(tenant_id="a")

    assert signed_by(await world.send(plain), DEFAULT)
    assert signed_by(await world.send(to_endpoint()), DEFAULT)
    world.secrets = [sealed_secret(b"t" * 32, endpoint=None)]
    assert signed_by(await world.send(plain), b"t" * 32)
    assert signed_by(await world.send(to_endpoint()), b"t" * 32)
    assert signed_by(await world.send(a_notification(tenant_id="b")), DEFAULT)
    world.secrets.append(sealed_secret(b"e" * 32, number=9))
    assert signed_by(await world.send(to_endpoint()), b"e" * 32)
    assert signed_by(await world.send(plain), b"t" * 32)


@pytest.mark.parametrize("what", ["secret", "tenant's secret", "headers"])
async def test_what_does_not_open_goes_out_neither_unsigned_nor_signed_by_another(what: str) -> None:
    """Sealed for another row, or by a key that is not in the ring: transient, since a person can mend it."""
    world = World([an_endpoint()], [sealed_secret(b"e" * 32)])
    if what == "headers":
        world.endpoints = [an_endpoint(sealed_headers=sealed_headers({"X-A": "b"}, id_=UUID(int=5)))]
    else:
        endpoint = ID if what == "secret" else None
        world.secrets = [Secret(UUID(int=1), "a", endpoint, sealed_secret(b"e" * 32, tenant="b").sealed, None)]

    with pytest.raises(TransientDeliveryError, match="secret_unreadable"):
        await world.send(to_endpoint() if what != "tenant's secret" else a_notification(tenant_id="a"))

    assert world.requests == []


async def test_who_is_not_known_is_sent_nothing_signed_by_another() -> None:
    """A tenant whose secrets nobody looked up, or which were forgotten again, may have one of its own."""
    world = World([an_endpoint()], [sealed_secret(b"t" * 32, endpoint=None)])

    for record in (a_notification(tenant_id="a"), to_endpoint()):
        assert not world.directory.check(record)
        with pytest.raises(TransientDeliveryError, match="endpoint_forgotten"):
            await world.provider.send(record, Attempt(1))

    assert world.requests == []


async def test_what_was_lined_up_for_a_url_that_has_changed_goes_to_the_new_one() -> None:
    """It keeps its place among the calls of the old origin; new ones are the new origin's."""
    world = World([an_endpoint()])
    record = to_endpoint()
    await world.directory.look_up([record])
    assert world.provider.place(record) == Place("https://shop.example:443")

    world.endpoints = [an_endpoint(url="https://new.example/hook")]
    world.clock.now += FRESH_S
    request = await world.send(record)

    assert str(request.url) == "https://new.example/hook"
    assert world.provider.place(record) == Place("https://new.example:443")


async def test_nothing_made_of_secrets_shows_them() -> None:
    """What signs, and headers that are credentials, are in no `repr`."""
    endpoint = an_endpoint(sealed_headers=sealed_headers({"Authorization": "Bearer s3cret"}))
    world = World([endpoint], [sealed_secret(b"e" * 32)])
    record = to_endpoint()
    await world.directory.look_up([record])

    shown = f"{world.directory._known} {world.directory.endpoint(record)}"

    assert "shop.example" in shown
    assert "s3cret" not in shown
    assert "e" * 32 not in shown


async def test_one_question_for_all_and_again_after_some_seconds() -> None:
    """What is fresh is not asked for."""
    world = World([an_endpoint()])
    records = [to_endpoint(), to_endpoint(), a_notification(tenant_id="b")]
    assert not any(world.directory.is_known(record, within_s=FRESH_S) for record in records)

    await world.directory.look_up(records)

    assert world.asked == [([("a", ID)], ["a", "b"])]
    assert all(world.directory.is_known(record, within_s=FRESH_S) for record in records)
    world.clock.now += FRESH_S
    assert not any(world.directory.is_known(record, within_s=FRESH_S) for record in records)
    assert all(world.directory.is_known(record, within_s=USABLE_S) for record in records)


async def test_a_rate_is_shared_by_the_processes_and_goes_on_through_a_look_up() -> None:
    """Two processes: each takes half; a look-up that finds it the same begins no new turn."""
    world = World([an_endpoint(rate_per_s=4.0)])
    record = to_endpoint()
    await world.directory.look_up([record])
    rate = world.directory.endpoint(record).rate
    assert rate is not None
    assert rate.per_s == 4
    rate.turn(10.0)

    world.processes = 2
    await world.directory.look_up([record])

    again = world.directory.endpoint(record)
    assert id(again.rate) == id(rate)
    assert (rate.per_s, rate.turn(10.0)) == (2, 10.5)


async def test_what_is_known_is_bounded_in_bytes_and_rates_outlast_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many endpoints with long headers make it forget the ones asked for longest ago, and count each of them once."""
    monkeypatch.setattr("delivery_consumer.providers.endpoints._MAX_BYTES", 10_000)
    ids = [UUID(int=number) for number in range(20)]
    long = {f"X-{number}": "x" * 1000 for number in range(2)}
    world = World([an_endpoint(id=id_, sealed_headers=sealed_headers(long, id_=id_), rate_per_s=1.0) for id_ in ids])
    records = [a_notification(tenant_id="a", recipient=f"ep_{id_.hex}") for id_ in ids]

    await world.directory.look_up(records[:1])
    rate = world.directory.endpoint(records[0]).rate
    for record in records * 2:
        await world.directory.look_up([record])
    known = [record for record in records if world.directory.is_known(record, within_s=FRESH_S)]
    await world.directory.look_up(records[:1])

    assert known == records[-4:]
    assert world.directory.endpoint(records[0]).rate is rate


async def test_an_endpoint_has_a_timeout_of_its_own() -> None:
    """It is handed on with the request."""
    world = World([an_endpoint(timeout_s=3.5)])
    seen: list[object] = []
    post = world.provider._transport.post

    async def noting(*arguments: object, **named: object) -> object:
        seen.append(named["timeout_s"])
        return await post(*arguments, **named)  # type: ignore[arg-type]

    world.provider._transport.post = noting  # type: ignore[method-assign, assignment]
    await world.send(to_endpoint())
    await world.send(a_notification(tenant_id="a"))

    assert seen == [3.5, None]

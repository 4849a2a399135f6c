"""The conformance class over every provider that is found: ours, and the tutorial's."""

import contextlib
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from waybridge import Push
from waybridge.plugins import Plugins
from waybridge.testing import Example, ProviderContract
from waybridge_driver_events import DriverEvents
from waybridge_imessage import IMessage
from waybridge_imessage.simulator import LinqSimulator
from waybridge_mycartracks import MyCarTracks, MyCarTracksSimulator
from waybridge_native import Native
from waybridge_osmand import OsmAnd
from waybridge_owntracks import OwnTracks

NOON = datetime(2026, 4, 12, 12, tzinfo=UTC)
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "waybridge_ferry"


class TestNative(ProviderContract):
    provider = Native
    settings = {"profile_url": "https://users.example/{device_token}", "profile_token": "token-of-the-profiles"}
    examples = [
        Example(
            path="positions",
            body={
                "device_token": "van-1", "latitude": 53.4, "longitude": -2.2, "timestamp": "2026-04-12T14:00:00+02:00",
                "speed": 12.5, "heading": 90, "accuracy": 4, "battery": 0.5,
            },
            positions=[
                {
                    "external_id": "van-1", "latitude": 53.4, "longitude": -2.2, "recorded_at": NOON,
                    "speed_mps": 12.5, "heading_deg": 90.0, "accuracy_m": 4.0, "battery": 0.5,
                }
            ],
        ),
        Example(
            path="positions",
            body={
                "positions": [
                    {"device_token": "van-2", "latitude": 1, "longitude": 2, "timestamp": NOON.timestamp() - 60},
                    {"device_token": "van-1", "latitude": 53.5, "longitude": -2.1, "timestamp": NOON.timestamp() - 5},
                ]
            },
            positions=[{"external_id": "van-2", "latitude": 1.0, "speed_mps": None}],
        ),
    ]  # fmt: skip


class TestOwnTracks(ProviderContract):
    provider = OwnTracks
    examples = [
        Example(
            body={
                "_type": "location", "lat": 60.1, "lon": 24.9, "tst": int(NOON.timestamp()), "vel": 36, "cog": 180,
                "acc": 5, "alt": 12, "batt": 80, "topic": "owntracks/jana/phone",
            },
            positions=[
                {
                    "external_id": "jana/phone", "latitude": 60.1, "speed_mps": 10.0, "heading_deg": 180.0,
                    "accuracy_m": 5.0, "altitude_m": 12.0, "battery": 0.8, "recorded_at": NOON,
                }
            ],
        ),
        Example(body=[{"_type": "location", "lat": 60.2, "lon": 24.9, "tst": int(NOON.timestamp()) - 9, "tid": "JN"}]),
    ]  # fmt: skip


class TestOsmAnd(ProviderContract):
    provider = OsmAnd
    examples = [
        Example(
            body="id=7&lat=60.1&lon=24.9&timestamp=1775995200&speed=10&bearing=45&batt=50&accuracy=3&altitude=9",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            positions=[
                {
                    "external_id": "7", "latitude": 60.1, "longitude": 24.9, "speed_mps": 5.144444, "heading_deg": 45.0,
                    "battery": 0.5, "accuracy_m": 3.0, "altitude_m": 9.0, "recorded_at": NOON,
                }
            ],
        ),
        Example(
            body={
                "device_id": "8",
                "location": {
                    "timestamp": "2026-04-12T11:59:00.000Z",
                    "coords": {"latitude": 60.1, "longitude": 24.9, "speed": 10, "heading": 90, "accuracy": 4},
                    "battery": {"level": 0.25},
                },
            },
            positions=[{"external_id": "8", "speed_mps": 10.0, "heading_deg": 90.0, "battery": 0.25}],
        ),
    ]  # fmt: skip

    # Cut short, a form is still a form: only what it says less is lost.
    test_a_truncated_push_is_refused_or_ignored = None


class TestDriverEvents(ProviderContract):
    provider = DriverEvents
    settings = {"auto_provision": True}
    prepare = [
        Example(
            path="v1/bookings/C/B/driver/events",
            body={"event_type": "DRIVER_DEPARTED_TO_PICKUP", "occurred_at": "2026-04-12T11:00:00Z"},
        )
    ]
    examples = [
        Example(
            path="v1/bookings/C/B/driver/events",
            body={
                "event_type": "DRIVER_LIVE_LOCATION", "latitude": 53.48114132, "longitude": -2.24033433,
                "occurred_at": when,
            },
            positions=[{"external_id": "C/B", "latitude": 53.48114132, "speed_mps": None, "recorded_at": moment}],
        )
        for when, moment in (
            ("2026-04-12T14:00:00+02:00", NOON),
            ("2026-04-12T12:00:05", NOON.replace(second=5)),
        )
    ]  # fmt: skip


class TestMyCarTracks(ProviderContract):
    provider = MyCarTracks
    settings = {"client_id": "client-of-the-test", "client_secret": "secret-of-the-test-client"}
    hostile = {"base_url": "{vendor}/services/rest/v3", "token_url": "{vendor}/oauth/token"}
    streamed = [{"external_id": "101", "latitude": 48.15, "longitude": 17.1, "speed_mps": 10.0, "heading_deg": 90.0}]

    @contextlib.asynccontextmanager
    async def stand_in(self):
        vendor = MyCarTracksSimulator(
            client_id=self.settings["client_id"], client_secret=self.settings["client_secret"]
        )
        await vendor.start()
        vendor.staff(1)
        vendor.move(101, 48.15, 17.1, 36.0, 90.0)
        try:
            yield vendor.settings()
        finally:
            await vendor.stop()


class TestIMessage(ProviderContract):
    provider = IMessage
    settings = {"api_key": "key-of-the-test", "webhook_signing_secret": "whsec_c2VjcmV0LW9mLXRoZS10ZXN0LXNlY3JldA=="}
    hostile = {"base_url": "{vendor}/api/partner"}
    streamed = [{"external_id": "+14155550101", "latitude": 60.17, "longitude": 24.94, "speed_mps": None}]
    examples = [
        Example(
            path="webhook",
            body={
                "api_version": "v3", "webhook_version": "2026-02-03", "event_type": f"location.sharing.{word}",
                "event_id": f"evt_{word}", "created_at": "2026-04-12T12:00:00Z", "trace_id": "t", "partner_id": "p",
                "data": {
                    "shared_by": "+14155550101", "shared_with": "+12025550100", "began_at": "2026-04-12T12:00:00Z",
                    "chat_id": "c1", **more,
                },
            },
        )
        for word, more in (("started", {"ends_at": None}), ("stopped", {"ended_at": "2026-04-12T12:30:00Z"}))
    ]  # fmt: skip

    def sign(self, push, settings):
        now = datetime.now(UTC)
        signer = Webhook(settings["webhook_signing_secret"])
        headers = {
            **push.headers,
            "webhook-id": f"msg_{len(push.body)}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(f"msg_{len(push.body)}", now, push.body.decode()),
        }
        return Push(
            method=push.method, path=push.path, segments=push.segments, query=push.query, headers=headers,
            body=push.body, received_at=push.received_at,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def stand_in(self):
        async with LinqSimulator(api_key=self.settings["api_key"]) as vendor:
            chat = vendor.add_chat("+14155550101")
            vendor.share(chat, "+14155550101", 60.17, 24.94, notify=False)
            yield {**vendor.settings(), "chats": [chat]}


def _tutorial():
    """The tutorial's own test, as its author runs it (there the module is installed)."""
    found = {}
    for name in ("waybridge_ferry", "test_waybridge_ferry"):
        spec = importlib.util.spec_from_file_location(name, TUTORIAL / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        found[name] = module
    return found["test_waybridge_ferry"].TestFerry


class TestTutorialsFerry(_tutorial()):
    pass


def test_every_provider_that_is_found_is_held_to_the_contract():
    held = {
        each.provider.kind
        for each in globals().values()
        if isinstance(each, type) and issubclass(each, ProviderContract) and each is not ProviderContract
    }
    assert set(Plugins().providers) <= held
    assert "ferry" in held


def test_the_tutorials_provider_has_about_thirty_lines():
    lines = [line for line in (TUTORIAL / "waybridge_ferry.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 32

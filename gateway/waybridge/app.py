"""What of a house is reachable by HTTP: the operations, the pages, the plugins' routes, in one web application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from waybridge.api.address import ClientAddress
from waybridge.api.clients import ClientApi
from waybridge.api.connections import ConnectionApi
from waybridge.api.cors import CrossOrigin
from waybridge.api.devices import DeviceApi
from waybridge.api.groups import GroupApi
from waybridge.api.ingest import IngestApi
from waybridge.api.ingest_live import LiveIngest
from waybridge.api.instances import InstanceApi
from waybridge.api.locations import LocationApi
from waybridge.api.metadata import MetadataApi
from waybridge.api.operations import Dispatcher, Operation
from waybridge.api.realtime import RealtimeApi
from waybridge.api.root import mount_root
from waybridge.api.server import edge, mount
from waybridge.api.service import ServiceApi
from waybridge.api.share_public import SharePublicApi
from waybridge.api.sharing import SharingApi
from waybridge.api.streams import StreamsApi
from waybridge.api.webhooks import WebhookOperations
from waybridge.attaching import Ranked
from waybridge.house import House
from waybridge.limits import buckets
from waybridge.store.groups import members as group_members
from waybridge.version import __version__
from waybridge.web.site import Site

HOUSE = web.AppKey("house", House)


class Endpoints:
    """The HTTP side of a house that lives already."""

    def __init__(self, house: House) -> None:
        self._house = house
        limits = house.settings.limits
        self.clients = ClientApi(house.store, house.clients, house.limiter)
        self.ingest = IngestApi(house.pushing, house.auth, most=limits.ingest_body_bytes)
        self.live_ingest = LiveIngest(
            house.pushing,
            house.auth,
            most=limits.ingest_body_bytes,
            authenticate_seconds=limits.authenticate_seconds,
        )
        self.service = ServiceApi(
            version=__version__,
            alive=lambda: house.store.healthy,
            checks={
                "database": self._database_state,
                "bus": self._bus_state,
                "connections": self._connections_state,
            },
            informative=frozenset({"connections"}),
        )

    async def close_sockets(self, _app: web.Application) -> None:
        """Ends everything that is open (1001), so that stopping does not wait for clients."""
        await self.live_ingest.close()
        await self._house.close_sockets()

    def operations(self) -> list[Operation]:
        """Everything that the API can do."""
        house = self._house
        now_us, limits = house.store.now_us, house.settings.limits
        apis: Sequence[Any] = (
            self.service,
            DeviceApi(
                house.roster,
                house.devices,
                house.tracks,
                now_us=now_us,
                members=self._members,
                attach=self._attach,
                ask=house.connections.ask_device,
                track_points=limits.track_points,
            ),
            MetadataApi(house.roster, house.devices, bulk_body_bytes=limits.bulk_body_bytes),
            LocationApi(house.roster, now_us=now_us, members=self._members),
            GroupApi(house.store, body_bytes=limits.bulk_body_bytes),
            InstanceApi(house.instances),
            self.clients,
            ConnectionApi(house.connections),
            SharingApi(house.sharing, limits),
            SharePublicApi(
                house.recipients, house.share_channels, house.fanout, house.limiter, buckets(limits), limits
            ),
            RealtimeApi(
                house.auth,
                house.realtime_feeds,
                house.fanout,
                limits,
                instance_exists=lambda instance_id: instance_id in house.instances.ids(),
            ),
            StreamsApi(
                house.stream_sessions,
                house.fanout,
                CrossOrigin(house.instances),
                limits,
                house.settings.streams,
                base_url=lambda: house.settings.base_url,
            ),
            WebhookOperations(house.webhooks.subscriptions, house.webhooks.history),
        )
        return [operation for api in apis for operation in api.operations()]

    async def _members(self, instance_id: str, group_ids: Sequence[str]) -> frozenset[str]:
        async with self._house.store.read() as conn:
            return await group_members(conn, instance_id, group_ids)

    async def _attach(self, instance_id: str, device_token: str, *, hold: float, ranked: Ranked) -> None:
        """Attaches sources; who wins among them from now on is decided before the answer."""
        await self._house.attaching.attach(instance_id, device_token, hold=hold, ranked=ranked)
        await self._house.presence.turn()

    async def _database_state(self) -> dict[str, Any]:
        return {"ok": await self._house.store.ping() and self._house.store.healthy}

    async def _bus_state(self) -> dict[str, Any]:
        return {"ok": self._house.bus.healthy}

    async def _connections_state(self) -> dict[str, Any]:
        states: dict[str, int] = {}
        for runtime in self._house.supervisor.runtimes():
            states[runtime.state] = states.get(runtime.state, 0) + 1
        return {"ok": not {"rejected", "failed", "retrying"} & set(states), "states": states}


def make_app(house: House) -> web.Application:
    """The web application over a house that lives already."""
    endpoints = Endpoints(house)
    cross_origin = CrossOrigin(house.instances)
    limits = house.settings.limits
    dispatcher = Dispatcher(
        house.auth,
        ClientAddress(house.settings.trusted_networks),
        instance_ids=house.instances.ids,
        is_instance=lambda instance_id: house.instances.one(instance_id) is not None,
        body_bytes=limits.body_bytes,
        page_size=limits.page_size,
        page_size_max=limits.page_size_max,
    )
    outermost = edge(cross_origin, access_log=house.settings.log_level == "debug")
    app = web.Application(middlewares=[outermost], client_max_size=limits.ingest_body_bytes)
    app[HOUSE] = house
    operations = endpoints.operations()
    prefixes = house.settings.api_prefixes
    mount(app, operations, dispatcher=dispatcher, cross_origin=cross_origin, prefixes=prefixes)
    mount_root(
        app,
        operations,
        dispatcher=dispatcher,
        cross_origin=cross_origin,
        service=endpoints.service,
        clients=endpoints.clients,
        ingest=endpoints.ingest,
        live=endpoints.live_ingest,
        version=__version__,
        base_url=house.settings.base_url,
        prefix=prefixes[0],
    )
    app.router.add_routes(house.plugins.routes(house.slice))
    site = Site(
        house.settings,
        by_token=house.recipients.by_token,
        instance=house.instances.one,
        brand=house.brand,
        now_us=house.store.now_us,
    )
    app.router.add_routes(site.routes())
    app.on_shutdown.append(endpoints.close_sockets)
    app.on_cleanup.append(site.close)
    return app

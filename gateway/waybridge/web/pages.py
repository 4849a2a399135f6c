"""The HTML of the share page and of the embedded tracker, and their static files.

Opening a page changes nothing: link previews and mail scanners fetch it too, so it is no view and uses up nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from aiohttp import web

from waybridge.web.brand import Brand, page_brand
from waybridge.web.bundle import RIGHT_TO_LEFT, Bundle, render, script_json
from waybridge.web.headers import page_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from waybridge.web.basemap import BaseMap

_FOREVER = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}
_A_DAY = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
_STATIC = {
    "favicon.svg": "image/svg+xml",
    "apple-touch-icon.png": "image/png",
    "og.png": "image/png",
}
_ASSET_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
# /share/ is not disallowed on purpose: a crawler has to fetch a page to see that it must not be indexed
_ROBOTS = "User-agent: *\nDisallow: /api/\nDisallow: /realtime/\nDisallow: /embed/\n"
_ASSET = r"[A-Za-z0-9_.\-]{1,120}"
_DEFAULT_INSTANCE = "default"
_UNAVAILABLE = 503
_UNSEEN = {"X-Robots-Tag": "noindex, nofollow, noarchive", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareView:
    """What the HTML may know of a link: whether it is live, and whose it is. Nothing about who or where."""

    state: Literal["active", "ended", "not_found", "unavailable"]
    instance_id: str | None = None
    reason: Literal["completed", "cancelled"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """An instance as the pages need it."""

    brand: Brand
    embed_origins: tuple[str, ...] = ()


class Pages:
    """Makes the pages' routes.

    - `share_state(token)` says whether a link is active, ended, not found (also expired), or cannot be looked up now.
    - `instance(instance_id)` answers brand and embed origins, or None for an instance that does not exist.
    - `bundle` is what `load_bundle()` found; without one every page says 503 and why.
    - `link_limit` is the most active links of one device (`limits.active_sessions_per_device`).
    - `reconnect_ms` is the first step of the share page's reconnect ladder; tests shorten it.
    """

    def __init__(
        self,
        *,
        share_state: Callable[[str], Awaitable[ShareView]],
        instance: Callable[[str], Awaitable[InstanceView | None]],
        basemap: BaseMap,
        default_brand: Brand,
        public_base_url: str,
        share_page_base_url: str = "",
        bundle: Bundle | None,
        link_limit: int = 10,
        clock: Callable[[], float] = time.time,
        reconnect_ms: int = 1000,
    ) -> None:
        self._share_state = share_state
        self._instance = instance
        self._basemap = basemap
        self._default_brand = default_brand
        self._public = public_base_url.rstrip("/")
        self._share_pages = (share_page_base_url or public_base_url).rstrip("/")
        self._found_bundle = bundle
        self._link_limit = link_limit
        self._clock = clock
        self._reconnect_ms = reconnect_ms

    def routes(self) -> list[web.RouteDef]:
        if self._found_bundle is None:
            return [web.get(path, self._not_built) for path in ("/share/{token}", "/embed/tracker", "/live-tracker.js")]
        static = [web.get(f"/{name}", self._static) for name in _STATIC]
        return [
            web.get("/share/{token}", self._share),
            web.get("/share/{token}/", self._share_with_slash),
            web.get("/embed/tracker", self._tracker),
            web.get("/embed/config", self._config),
            web.get("/live-tracker.js", self._live_tracker),
            web.get(f"/assets/{{name:{_ASSET}}}", self._asset),
            web.get("/robots.txt", self._robots),
            *static,
        ]

    async def _share(self, request: web.Request) -> web.Response:
        view = await self._share_state(request.match_info["token"])
        instance = None if view.instance_id is None else await self._instance(view.instance_id)
        brand = page_brand(self._default_brand if instance is None else instance.brand)
        language = self._bundle.language(request.headers.get("Accept-Language", ""))
        texts = self._bundle.texts[language]
        common = {
            "lang": language,
            "dir": "rtl" if language in RIGHT_TO_LEFT else "ltr",
            "origin": self._share_pages,
            "brand": brand["name"],
        }
        if view.state != "active":
            return self._gone(request, view, texts, common)
        framed = request.query.get("embed") == "map" and instance is not None
        boot = self._boot(request, language, brand)
        values = common | {
            "title": texts["pageTitle"].replace("{brand}", brand["name"]),
            "preview_title": texts["previewTitle"].replace("{brand}", brand["name"]),
            "preview_text": texts["previewText"],
            "skip": texts["skip"],
            "connecting": texts["connecting"],
            "live_title": texts["liveTitle"],
            "no_script": texts["noScript"],
            "boot": script_json({**boot, "texts": texts, "reconnect_ms": self._reconnect_ms}),
        }
        origins = instance.embed_origins if framed and instance is not None else ()
        return self._html(request, render(self._bundle.share, values), 200, origins)

    async def _share_with_slash(self, request: web.Request) -> web.Response:
        """Links are typed and wrapped: one with a slash behind it leads to the one without, wherever we are mounted."""
        url = request.rel_url
        query = f"?{url.raw_query_string}" if url.raw_query_string else ""
        place = f"../{url.raw_path.rstrip('/').rpartition('/')[2]}{query}"
        return web.Response(status=308, headers={"Location": place, "Cache-Control": "no-store", **_UNSEEN})

    def _gone(
        self, request: web.Request, view: ShareView, texts: Mapping[str, str], common: Mapping[str, str]
    ) -> web.Response:
        if view.state == "not_found":
            title, text, state, status = texts["notFoundTitle"], texts["notFoundText"], "not_found", 404
        elif view.state == "unavailable":
            title, text, state, status = texts["lostTitle"], texts["busyText"], "lost", 503
        else:
            state, status = view.reason or "ended", 410
            title, text = texts["endedTitle"], texts[f"{state}Text"]
        values = {**common, "title": title, "text": text, "state": state}
        return self._html(request, render(self._bundle.gone, values), status, ())

    async def _tracker(self, request: web.Request) -> web.Response:
        instance_id = request.query.get("instance_id", _DEFAULT_INSTANCE)
        instance = await self._instance(instance_id)
        origins = () if instance is None else instance.embed_origins
        brand = page_brand(self._default_brand if instance is None else instance.brand)
        language = self._bundle.language(request.headers.get("Accept-Language", ""))
        boot = self._tracker_boot(request, instance_id, language, brand) | {"parents": list(origins)}
        values = {
            "lang": language,
            "dir": "rtl" if language in RIGHT_TO_LEFT else "ltr",
            "title": brand["name"],
            "boot": script_json(boot),
        }
        return self._html(request, render(self._bundle.tracker, values), 200, origins)

    async def _config(self, request: web.Request) -> web.Response:
        """What `<live-tracker>` needs on a host's own page: nothing that the tracker's HTML does not say to all."""
        instance_id = request.query.get("instance_id", _DEFAULT_INSTANCE)
        instance = await self._instance(instance_id)
        brand = page_brand(self._default_brand if instance is None else instance.brand)
        language = self._bundle.language(request.headers.get("Accept-Language", ""))
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        body = self._tracker_boot(request, instance_id, language, brand)
        return web.json_response(body, headers=headers)

    async def _live_tracker(self, _request: web.Request) -> web.Response:
        headers = {**_FOREVER, "Cache-Control": "no-cache"}
        text = f'export * from "./{self._bundle.live_tracker}"\n'
        return web.Response(text=text, content_type="text/javascript", headers=headers)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = self._bundle.folder / "assets" / name
        if name.startswith(".") or name.endswith((".br", ".gz")) or not path.is_file():
            raise web.HTTPNotFound(text="There is no such file.")
        # said here and not guessed: a machine's own table of types may call a module text/plain, and it would not run
        headers = {**_FOREVER, "Content-Type": _ASSET_TYPES.get(path.suffix, "application/octet-stream")}
        return web.FileResponse(path, headers=headers)  # picks the .br or .gz beside it by Accept-Encoding

    async def _static(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        return web.FileResponse(self._bundle.folder / name, headers={**_A_DAY, "Content-Type": _STATIC[name]})

    async def _robots(self, _request: web.Request) -> web.Response:
        return web.Response(text=_ROBOTS, headers=_A_DAY)

    async def _not_built(self, _request: web.Request) -> web.Response:
        text = "The pages are not part of this installation: it was built with SKIP_WEB_BUILD=1. The API works.\n"
        return web.Response(status=503, text=text, headers={"Cache-Control": "no-store"})

    @property
    def _bundle(self) -> Bundle:
        if self._found_bundle is None:
            raise LookupError("the pages are not built")
        return self._found_bundle

    def _boot(self, request: web.Request, language: str, brand: Mapping[str, str]) -> dict[str, Any]:
        return {
            "api": self._foreign_api(request),
            "language": language,
            "server_time": round(self._clock(), 3),
            "brand": brand,
            "map": self._basemap.page_config(),
        }

    def _tracker_boot(
        self, request: web.Request, instance_id: str, language: str, brand: Mapping[str, str]
    ) -> dict[str, Any]:
        shared = self._boot(request, language, brand)
        return {**shared, "instance_id": instance_id, "link_limit": self._link_limit}

    def _foreign_api(self, request: web.Request) -> str | None:
        """The API's absolute base where pages have a host of their own and this request came to it."""
        if self._share_pages == self._public:
            return None
        return None if request.host == urlsplit(self._public).netloc else self._public

    def _html(self, request: web.Request, text: str, status: int, frame_ancestors: tuple[str, ...]) -> web.Response:
        headers = page_headers(
            host=request.host,
            secure=request.secure or self._public.startswith("https:"),
            map_hosts=self._basemap.hosts,
            api=self._foreign_api(request),
            frame_ancestors=frame_ancestors,
        )
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)
        if status == _UNAVAILABLE:
            response.headers["Retry-After"] = "10"
        response.enable_compression()
        return response

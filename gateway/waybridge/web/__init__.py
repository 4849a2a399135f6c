"""The two pages: the customer's share page and the embedded tracker, with their tiles and static files.

`pages.Pages` and `tiles.Tiles` are made by the app, which hands them what they need and mounts their `routes()`.
The files themselves are built from `gateway/pages` at install time into `dist/`.
"""

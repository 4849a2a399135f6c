"""What the tests of the pages share: where things lie, and a gateway to look at."""

from __future__ import annotations

from pathlib import Path

import waybridge

HELSINKI = Path(waybridge.__file__).parent / "demo_data" / "helsinki.pmtiles"
ROUTES = HELSINKI.with_name("routes.json")

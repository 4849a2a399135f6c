"""The rooms that know SQL: tables, the engine with its one writer, and one file of questions per subject.

Those who ask hold a connection and read rows: they name their types from here.
"""

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["AsyncConnection", "Row"]

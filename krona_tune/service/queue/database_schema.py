"""Defines the tables of the queue's file, and the steps that bring an older file to them."""

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sql

from krona_tune.service.queue.entry import LIVE

metadata = sql.MetaData()
entries = sql.Table(
    "entries",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("name", sql.String, nullable=False),
    sql.Column("person", sql.String, nullable=False),
    sql.Column("priority", sql.Integer, nullable=False),
    sql.Column("state", sql.String, nullable=False, default="queued"),
    sql.Column("space", sql.String, nullable=False),
    sql.Column("tracking_uri", sql.String),
    sql.Column("notify", sql.String, nullable=False),
    sql.Column("slots", sql.Integer, nullable=False, default=0),
    sql.Column("submitted_at", sql.Float, nullable=False, default=time.time),
    sql.Column("ended_at", sql.Float),
    sql.Column("reason", sql.String, nullable=False, default=""),
    sql.Column("removed_by", sql.String, nullable=False, default=""),
    sqlite_autoincrement=True,
)
sql.Index("live_names", entries.c.name, unique=True, sqlite_where=entries.c.state.in_(LIVE))
starts = sql.Table(
    "starts",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("entry", sql.Integer, nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("slots", sql.Integer, nullable=False),
    sql.Column("handle", sql.String, nullable=False),
    sql.Column("state_before", sql.Float),
    sql.Column("ended_at", sql.Float),
    sql.Column("fault", sql.Integer, nullable=False),
)
changes = sql.Table(
    "changes",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("entry", sql.Integer, nullable=False),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("slots", sql.Integer, nullable=False),
)
trainings = sql.Table(
    "trainings",
    metadata,
    sql.Column("entry", sql.Integer, primary_key=True),
    sql.Column("words", sql.String, nullable=False),
)
answers = sql.Table(
    "answers",
    metadata,
    sql.Column("entry", sql.Integer, primary_key=True),
    sql.Column("fingerprint", sql.String, nullable=False),
    sql.Column("plan", sql.String, nullable=False),
)
resumptions = sql.Table(
    "resumptions",
    metadata,
    sql.Column("entry", sql.Integer, primary_key=True),
    sql.Column("orders", sql.String, nullable=False),
)


def _create_first(connection: sql.Connection) -> None:
    metadata.create_all(connection, tables=[entries, starts, changes])


MIGRATIONS: Sequence[Callable[[sql.Connection], None]] = (
    _create_first,
    trainings.create,
    answers.create,
    resumptions.create,
)
"""What brings a file from each format to the next, from an empty file on. A step is never changed once it was released;
the first then lists its statements, since the tables above are those of the last format."""

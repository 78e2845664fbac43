"""A history in a MongoDB database, for those who have one already (the extra `mongodb`)."""

from milvaion_trio.history.mongodb.store import MongoDBHistory

__all__ = ["MongoDBHistory"]

"""AMQP 0-9-1, spoken by ourselves on Trio.

Without I/O: `encoding` and `decoding` are messages as bytes, `protocol` keeps the states of a
connection and its channels. `connection` is all that on a stream, `link` the connection as `rabbitmq` uses it.
"""

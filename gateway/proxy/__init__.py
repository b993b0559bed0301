"""The byte path: requests of a session's holder to its container and back, exact, bounded, cancelled at once.

``guard`` and ``target`` say what is not forwarded and where the rest goes, ``headers`` what changes on the way,
``pool`` and ``upstream`` speak HTTP/1.1 to the container, ``http`` and ``websocket`` relay. Addresses, credentials and
callbacks are parameters: nothing here reads the log, a view or a setting of another room.
"""

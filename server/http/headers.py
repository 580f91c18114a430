"""The headers that mean something here, beside HTTP's own."""

from typing import Annotated

import msgspec
from msgspec import Meta

from server.http.fields import Name


class FetchHeaders(msgspec.Struct):
    """Who fetches."""

    client: (
        Annotated[
            Name,
            Meta(description="who fetches: a random name, the same for all fetches of one client"),
        ]
        | None
    ) = msgspec.field(default=None, name="Queue-Client")


class FetchedHeaders(msgspec.Struct):
    """Who else does."""

    other_client: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="for how many seconds no other Queue-Client has fetched for this subscriber; only when one did "
            "within the last minute through this server, as far as it remembers: best effort",
        ),
    ] = msgspec.field(name="Queue-Other-Client")

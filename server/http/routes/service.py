"""The server itself: health, metrics, and its own description."""

import json
from functools import cache

from server.http import schemas
from server.http.fields import Object
from server.http.metrics import exposition
from server.http.openapi import document
from server.http.operations import Answer, Context, operation


@operation("GET", "/health", answer=schemas.Health, secured=False)
async def health(context: Context) -> Answer:
    """Say whether the queue works, and whether it keeps its promise of durability."""
    found = await context.engine.health()
    status = "unsafe" if found.unsafe else "ok"
    return Answer(json.dumps({"status": status, "engine": found.engine, "unsafe": found.unsafe}))


@operation("GET", "/metrics", answer=str)
async def metrics(context: Context) -> Answer:
    """Metrics in Prometheus' text format."""
    text = await exposition(context)
    return Answer(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@operation("GET", "/openapi.json", answer=Object)
async def openapi(context: Context) -> Answer:
    """Describe the routes as OpenAPI 3.1."""
    return Answer(_document())


@cache
def _document() -> str:
    return json.dumps(document())

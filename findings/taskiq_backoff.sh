#!/usr/bin/env bash
# A good guess: SmartRetryMiddleware(default_delay=2, use_delay_exponent=True), documented as exponential backoff,
#   waits 2, 4, 8, 16, 32 seconds, whatever brings the task back, and max_retries=6 means six retries.
# What happens: with a schedule source it waits 2, 4, 6, 8, 10: linear. Without one it logs 2, 4, 12, 48, 240: the wait
#   is stored as the label that the next wait is multiplied from, so it grows like a factorial; and a broker that does
#   not read that label runs them all at once, while the log says "in 240.00 seconds". Neither is exponential, and
#   a limit of 6 is six runs, five of them retries.
# Seen with taskiq 0.13.0.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq taskiq==0.13.0
"$tmp/venv/bin/python" - <<'PY'
import asyncio, importlib.metadata, logging, time
from taskiq import InMemoryBroker, ScheduleSource, SmartRetryMiddleware
from taskiq.kicker import AsyncKicker

print("taskiq", importlib.metadata.version("taskiq"))
logging.getLogger("taskiq").setLevel(logging.CRITICAL)
log = logging.getLogger("taskiq.smart_retry_middleware")
log.setLevel(logging.INFO)
assert "exponential backoff" in SmartRetryMiddleware.__init__.__doc__
log.addFilter(lambda record: "Retrying" in record.msg and waits.append(record.args[3]))  # "... in %.2f seconds"

class Source(ScheduleSource):
    """Keeps what is scheduled; the test runs it at once."""
    def __init__(self):
        self.tasks = []
    async def get_schedules(self):
        return self.tasks
    async def add_schedule(self, schedule):
        self.tasks.append(schedule)

async def run(source):
    runs = 0
    broker = InMemoryBroker(await_inplace=True).with_middlewares(SmartRetryMiddleware(
        default_retry_count=6, default_delay=2, use_delay_exponent=True, max_delay_exponent=10**6,
        schedule_source=source))
    @broker.task(task_name="fails", retry_on_error=True)
    async def fails():
        nonlocal runs
        runs += 1
        raise ValueError
    await fails.kiq()
    while source and source.tasks:
        task = source.tasks.pop()
        await AsyncKicker(task.task_name, broker, labels=task.labels).kiq(*task.args, **task.kwargs)
    return runs

for source, expected in ((Source(), [2, 4, 6, 8, 10]), (None, [2, 4, 12, 48, 240])):
    waits, started = [], time.monotonic()
    runs = asyncio.run(run(source))
    print("with a source" if source else "without one", "runs", runs, "waits", waits)
    assert (runs, waits) == (6, expected) and time.monotonic() - started < 10
PY

#!/usr/bin/env bash
# A good guess: "0 9 */2 * 1" means one thing to five Python schedulers; and since cron joins the two day fields by OR
#   only when neither begins with a star, it is 9:00 on every Monday with an odd date. "0 9 13 * 5" is the 13ths and all
#   Fridays to each of them.
# What happens: in January and February 2026 the first line runs on 4 days in cronsim, Celery and huey, on 34 in croniter
#   (which takes */2 for a list of days and joins by OR; procrastinate and pgqueuer schedule with it), and on 4 Tuesdays
#   in APScheduler, whose weekday 1 is Tuesday in from_crontab too. The second line runs on 10 days in croniter and cronsim,
#   on Friday the 13th alone in Celery and huey, and not once in APScheduler, which waits for a Saturday.
# Seen with croniter 7.0.0, cronsim 2.8, APScheduler 3.11.3, celery 5.7.0, huey 3.5.4.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq croniter==7.0.0 cronsim==2.8 APScheduler==3.11.3 celery==5.7.0 huey==3.5.4
"$tmp/venv/bin/python" - <<'PY'
from datetime import datetime, timedelta, timezone
import huey
from apscheduler.triggers.cron import CronTrigger
from celery.schedules import crontab
from croniter import croniter
from cronsim import CronSim

begin, end = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 1, tzinfo=timezone.utc)
nines = [begin + timedelta(days=n, hours=9) for n in range((end - begin).days)]

def run_celery(line):
    c = crontab.from_string(line)
    return [t for t in nines if t.day in c.day_of_month and t.isoweekday() % 7 in c.day_of_week]

def run_huey(line):
    minute, hour, day, month, weekday = line.split()
    due = huey.crontab(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday)
    return [t for t in nines if due(t.replace(tzinfo=None))]

def run_apscheduler(line):
    trigger = CronTrigger.from_crontab(line, timezone=timezone.utc)
    return [t for t in nines if trigger.get_next_fire_time(None, t) == t]

def until_end(moments):
    days = []
    while (t := next(moments)) < end:
        days.append(t)
    return days

def run_croniter(line):
    return until_end(croniter(line, begin).all_next(datetime))

def run_cronsim(line):
    return until_end(CronSim(line, begin))

expected = {"0 9 */2 * 1": (34, 4, 4, 4, 4), "0 9 13 * 5": (10, 10, 0, 1, 1)}
for line, counts in expected.items():
    got = [run(line) for run in (run_croniter, run_cronsim, run_apscheduler, run_celery, run_huey)]
    for name, days in zip(("croniter", "cronsim", "APScheduler", "celery", "huey"), got):
        print(f"{line}  {name:11} {len(days):2} runs:", ", ".join(f"{d:%a %d %b}" for d in days[:6]))
    assert tuple(map(len, got)) == counts and (line != "0 9 */2 * 1" or got[2][0].weekday() == 1)
PY

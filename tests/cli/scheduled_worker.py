"""A worker with schedules as a user writes one, to be loaded by commands, or run as a program: it leaves by itself."""

import trio

from milvaion_trio import JobContext, Worker

worker = Worker("report-worker")
ticks: list[str] = []


@worker.every(1, id="often", data={"days": 30})
@worker.cron("0 9 * * MON", timezone="Europe/Istanbul")
@worker.job("CleanupJob")
async def clean_up(ctx: JobContext, data: dict[str, int] | None = None) -> str:
    ticks.append(ctx.occurrence_id)
    if __name__ == "__main__":
        worker.drain()
    return f"kept {(data or {}).get('days', 0)} days"


if __name__ == "__main__":
    trio.run(worker.serve)
    print(len(set(ticks)))

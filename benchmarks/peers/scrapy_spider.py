"""Scrapy: one spider, one form request for each number, its own retry middleware."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.http import FormRequest, Response

from benchmarks.job import CREDENTIALS, Answers, Job, measure


class CheckSpider(scrapy.Spider):  # type: ignore[misc]  # untyped
    """Ask for every number of the job and keep the answers."""

    name = "check"

    def __init__(self, job: Job, answers: dict[str, bool], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.answers = answers

    async def start(self) -> AsyncIterator[FormRequest]:
        for number in self.job.numbers():
            yield FormRequest(
                self.job.url,
                formdata={"number": number},
                headers=CREDENTIALS,
                cb_kwargs={"number": number},
                dont_filter=True,
            )

    def parse(self, response: Response, number: str) -> None:
        self.answers[number] = json.loads(response.body)["result"]["whatsapp"] == "yes"


def crawl(job: Job, **settings: Any) -> Answers:
    """Run the spider on the job with these settings in addition to the usual ones."""
    answers: dict[str, bool] = {}
    process = CrawlerProcess(
        {
            "CONCURRENT_REQUESTS": job.workers,
            "CONCURRENT_REQUESTS_PER_DOMAIN": job.workers,
            "DOWNLOAD_DELAY": 0,
            "COOKIES_ENABLED": False,
            "ROBOTSTXT_OBEY": False,
            "TELNETCONSOLE_ENABLED": False,
            "LOG_ENABLED": False,
            "ASYNCIO_EVENT_LOOP": "uvloop.Loop" if job.loop == "uvloop" else None,
            **settings,
        }
    )
    process.crawl(CheckSpider, job=job, answers=answers)
    process.start(install_signal_handlers=False)
    return answers


if __name__ == "__main__":
    measure(crawl)

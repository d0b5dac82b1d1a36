# What docs/how-to/airflow.md uses of Airflow 3.

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec

_Arguments = ParamSpec("_Arguments")

class _Task:
    def bash(
        self,
        *,
        retries: int,
        retry_delay: timedelta,
        skip_on_exit_code: int,
        append_env: bool,
    ) -> Callable[[Callable[_Arguments, str]], Callable[_Arguments, Any]]: ...

task: _Task

def dag(
    *, schedule: str, catchup: bool
) -> Callable[[Callable[_Arguments, None]], Callable[_Arguments, Any]]: ...

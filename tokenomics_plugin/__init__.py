"""What agents spend, and what it achieved: tracing, outcomes and reports over OpenTelemetry.

    import tokenomics_plugin

    tokenomics_plugin.configure(service_name="support-agent", endpoint="http://127.0.0.1:4318")
    with tokenomics_plugin.task("ticket-17", value="4.50") as task:
        ...  # every span started in here belongs to the ticket
        task.succeed()

Reports and the collector are in `tokenomics_plugin.report` and `tokenomics_plugin.collector`, behind the
extras of the same names; importing this package needs neither.
"""

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.tasks import Task, record_outcome, task
from tokenomics_plugin.telemetry import Telemetry, configure
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "Outcome",
    "OutcomeStatus",
    "Task",
    "Telemetry",
    "TokenUsage",
    "TokenomicsError",
    "configure",
    "record_outcome",
    "task",
]

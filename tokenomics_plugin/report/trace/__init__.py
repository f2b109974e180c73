"""One trace, as the person reads it who will change the agent: where its money went, and which of it bought nothing."""

from tokenomics_plugin.report.trace.look import TraceLook
from tokenomics_plugin.report.trace.sections import trace_page, trace_sections

__all__ = ["TraceLook", "trace_page", "trace_sections"]

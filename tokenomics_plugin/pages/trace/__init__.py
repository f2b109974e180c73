"""One trace, as the person reads it who will change the agent: where its money went, and which of it bought nothing."""

from tokenomics_plugin.pages.trace.look import TraceLook
from tokenomics_plugin.pages.trace.sections import block_table, trace_page, trace_sections
from tokenomics_plugin.pages.trace.span import span_section

__all__ = ["TraceLook", "block_table", "span_section", "trace_page", "trace_sections"]

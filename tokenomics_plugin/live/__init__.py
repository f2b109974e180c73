"""Live pages: the report's pages over a store that still grows, with lists to search and traces to look into.

A process of its own keeps the tables that pages are made from and answers questions about them, so that neither the
acknowledgement of spans nor their loading waits for a reader. It starts with the first page that is asked for.
"""

from tokenomics_plugin.live.desk import Desk
from tokenomics_plugin.live.routes import Access, page_routes

__all__ = ["Access", "Desk", "page_routes"]

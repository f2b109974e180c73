"""What a model call cost: token counts are facts, prices change, so money is derived when a report reads.

List prices come from the data that `genai-prices` bundles, as of the request's time; nothing is fetched. A price
book of one's own wins over them: negotiated prices, and what the machine of a local model costs an hour. What
cannot be priced has no price (`None`, with the reason); it is never free.
"""

from tokenomics_plugin.pricing.billable import Billable
from tokenomics_plugin.pricing.list_prices import list_price_source
from tokenomics_plugin.pricing.price_book import Price, PriceBook, PriceBookError
from tokenomics_plugin.pricing.quote import PRICE_CURRENCY, Quote, Unpriced
from tokenomics_plugin.pricing.rates import TOKEN_CLASSES, Counts, Rates, billed_tokens
from tokenomics_plugin.pricing.standard import REFERENCE_MODEL, STANDARD_DATE, StandardPrices

__all__ = [
    "PRICE_CURRENCY",
    "REFERENCE_MODEL",
    "STANDARD_DATE",
    "TOKEN_CLASSES",
    "Billable",
    "Counts",
    "Price",
    "PriceBook",
    "PriceBookError",
    "Quote",
    "Rates",
    "StandardPrices",
    "Unpriced",
    "billed_tokens",
    "list_price_source",
]

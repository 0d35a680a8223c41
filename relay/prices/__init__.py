"""What calls cost, in nano-dollars.

    price.py    Price, and what an answer has cost by it
    prices.py   the configured prices, then those of the table
    table.py    what models cost at the providers, as a child process tells it
    export.py   that child: the only one that imports genai_prices

A model nobody has a price for is unpriced: None, never 0.
"""

from relay.prices.price import FREE, Price, cost
from relay.prices.prices import Prices
from relay.prices.table import PriceTable

__all__ = ["FREE", "Price", "PriceTable", "Prices", "cost"]

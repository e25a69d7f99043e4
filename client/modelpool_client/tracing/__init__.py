"""Which requests are traced, and how that is told on: W3C Trace Context, for gateway and workers.

Needs no library: what was seen becomes spans in the manager (``modelpool.observe``), which alone
exports them.
"""

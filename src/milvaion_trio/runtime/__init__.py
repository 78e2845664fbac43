"""The nursery tree of a worker: registered jobs, their context and providers, and everything that runs them.

It knows the ports and none of the adapters behind them.
"""

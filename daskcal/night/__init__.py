"""A folder of raw frames and everything made from it: config, plan, run, ledger, report."""

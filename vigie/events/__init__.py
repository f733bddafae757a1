"""Events: the alarms and groups of anomalies of an asset, for an operator to act on."""

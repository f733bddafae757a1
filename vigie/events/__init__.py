"""Events: the alarms and groups of anomalies of an asset, for an operator to act on.

What keeps events, or notifies somebody of an alarm, belongs here too.
"""

"""Events: alarms, drifts, bad data and groups of anomalies, for an operator to act on.

What keeps events, or notifies somebody of an alarm, belongs here too.
"""

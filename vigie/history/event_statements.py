"""The statements on events and on the states of assets, in SQL that both databases support.

They run in the transaction that keeps a reading; see ``AssetTransaction.execute``.
"""

from __future__ import annotations

_OURS = "asset_id = :asset_id AND sensor_id = :sensor_id"
_OPEN = f"{_OURS} AND kind <> 'no_data' AND end_us IS NULL"
STATEMENTS = {
    "open event": f"SELECT id, kind, peak_p, reading_p FROM asset_events WHERE {_OPEN}",
    "begin event": "INSERT INTO asset_events (id, asset_id, sensor_id, kind, start_us, began_us, "
    "peak_us, peak_p, reading_p, criticality, last_us, n_readings, n_anomalies, sensors, "
    "versions) VALUES (:id, :asset_id, :sensor_id, :kind, :start_us, :began_us, :peak_us, "
    ":peak_p, :reading_p, :criticality, :last_us, :n_readings, :n_anomalies, :sensors, "
    ":versions)",
    "go on": "UPDATE asset_events SET n_readings = n_readings + :n_readings, "
    "n_anomalies = n_anomalies + :n_anomalies, last_us = :last_us "
    f"WHERE {_OPEN} AND kind = :kind RETURNING id, kind, peak_p, reading_p",
    "new peak": "UPDATE asset_events SET peak_us = :peak_us, peak_p = :peak_p, "
    "sensors = COALESCE(:sensors, sensors) WHERE id = :id",
    "rarest reading": "UPDATE asset_events SET reading_p = :reading_p, "
    "criticality = :criticality WHERE id = :id",
    "end event": "UPDATE asset_events SET end_us = last_us WHERE id = :id",
    "state": "INSERT INTO asset_states (asset_id, sensor_id, state, since_us, seen_us, "
    "received_us, p_value, quality, faults) VALUES (:asset_id, :sensor_id, :state, :since_us, "
    ":seen_us, :received_us, :p_value, :quality, :faults) "
    "ON CONFLICT (asset_id, sensor_id) DO UPDATE SET state = excluded.state, "
    "since_us = excluded.since_us, seen_us = excluded.seen_us, "
    "received_us = excluded.received_us, p_value = excluded.p_value, "
    "quality = excluded.quality, faults = excluded.faults",
}
"""By name; ``History`` writes them in the style of its driver."""

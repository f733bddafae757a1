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
    "begin silence": "INSERT INTO asset_events (id, asset_id, sensor_id, kind, start_us, peak_us, "
    "peak_p, reading_p, last_us, n_readings, n_anomalies, sensors, versions) VALUES (:id, "
    ":asset_id, :sensor_id, 'no_data', :start_us, :start_us, 1.0, 1.0, :start_us, 0, 0, '[]', "
    "'{}') ON CONFLICT DO NOTHING",
    "end silence": "UPDATE asset_events SET end_us = :end_us, last_us = :end_us "
    f"WHERE {_OURS} AND kind = 'no_data' AND end_us IS NULL",
    "received": f"SELECT seen_us, received_us FROM asset_states WHERE {_OURS}",
    "p-value": f"SELECT p_value FROM asset_states WHERE {_OURS}",
    "end event": "UPDATE asset_events SET end_us = last_us WHERE id = :id",
    "state": "INSERT INTO asset_states (asset_id, sensor_id, state, since_us, seen_us, "
    "received_us, p_value, quality, faults) VALUES (:asset_id, :sensor_id, :state, :since_us, "
    ":seen_us, :received_us, :p_value, :quality, :faults) "
    "ON CONFLICT (asset_id, sensor_id) DO UPDATE SET state = excluded.state, "
    "since_us = excluded.since_us, seen_us = excluded.seen_us, "
    "received_us = excluded.received_us, p_value = excluded.p_value, "
    "quality = excluded.quality, faults = excluded.faults",
    "seen": "INSERT INTO asset_states (asset_id, sensor_id, state, since_us, seen_us, "
    "received_us, p_value, quality, faults) VALUES (:asset_id, :sensor_id, :state, :since_us, "
    ":seen_us, :received_us, :p_value, :quality, :faults) "
    "ON CONFLICT (asset_id, sensor_id) DO UPDATE SET seen_us = excluded.seen_us, "
    "received_us = excluded.received_us, p_value = excluded.p_value, "
    "quality = excluded.quality, faults = excluded.faults "
    "WHERE asset_states.seen_us < excluded.seen_us",
    "live alarm": f"SELECT id, state, is_told FROM asset_alarms WHERE {_OURS} "
    "AND kind = :kind AND state <> 'cleared'",
    "alarm": "SELECT state, due_us, is_told, kind, acknowledged_us FROM asset_alarms "
    "WHERE id = :id",
    "raise alarm": "INSERT INTO asset_alarms (id, event_id, asset_id, sensor_id, kind, state, "
    "start_us, raised_us, due_us, is_told) VALUES (:id, :event_id, :asset_id, :sensor_id, "
    ":kind, :state, :start_us, :raised_us, :due_us, :is_told)",
    "go on with alarm": "UPDATE asset_alarms SET event_id = :event_id, due_us = NULL "
    "WHERE id = :id",
    "forget alarm": "DELETE FROM asset_alarms WHERE id = :id",
    "delay alarm": "UPDATE asset_alarms SET due_us = :due_us WHERE id = :id",
    "activate alarm": "UPDATE asset_alarms SET state = 'active', raised_us = :now_us, "
    "due_us = NULL WHERE id = :id",
    "clear alarm": "UPDATE asset_alarms SET state = 'cleared', cleared_us = :now_us, "
    "due_us = NULL WHERE id = :id",
    "told": "UPDATE asset_alarms SET is_told = :is_told WHERE id = :id",
    "acknowledge": "UPDATE asset_alarms SET acknowledged_us = :now_us, "
    "acknowledged_by = :by_whom, note = :note WHERE id = :id",
    "change": "INSERT INTO alarm_changes (alarm_id, at_us, change, by_whom, note) "
    "VALUES (:alarm_id, :now_us, :change, :by_whom, :note)",
    "level": "SELECT asset_events.criticality, asset_alarms.raised_us, asset_alarms.start_us "
    "FROM asset_alarms JOIN asset_events ON asset_events.id = asset_alarms.event_id "
    "WHERE asset_alarms.id = :id",
    "alert": "INSERT INTO alarm_alerts (id, channel, alarm_id, change, at_us, by_whom, note, "
    "state, due_us, leased_until_us, attempts) VALUES (:id, :channel, :alarm_id, :change, :now_us, "
    ":by_whom, :note, 'waiting', :due_us, 0, 0)",
    "replace label": "UPDATE event_labels SET replaced_us = :now_us "
    "WHERE event_id = :id AND replaced_us IS NULL",
    "label": "INSERT INTO event_labels (event_id, label, cause, note, at_us, by_whom) "
    "VALUES (:id, :label, :cause, :note, :now_us, :by_whom)",
    "pauses": "SELECT id, silence, asset_id, sensor_id, kind, from_us, until_us, reason, by_whom "
    "FROM asset_pauses WHERE ended_us IS NULL",
    "pause": "INSERT INTO asset_pauses (id, silence, asset_id, sensor_id, kind, from_us, "
    "until_us, reason, by_whom) VALUES (:id, :silence, :asset_id, :sensor_id, :kind, :now_us, "
    ":until_us, :reason, :by_whom)",
    "end pause": "UPDATE asset_pauses SET ended_us = :now_us, ended_by = :by_whom "
    "WHERE id = :id AND ended_us IS NULL",
}
"""By name; ``History`` writes them in the style of its driver."""

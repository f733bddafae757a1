"""``vigie sync``: send the outbox to MLflow."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.environment import enabled_mlflow
from vigie.cli.terminal import err, out, progress_bar
from vigie.errors import OutboxError

if TYPE_CHECKING:
    from vigie.tracking.outbox import Entry


def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be sent.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Requeue the dead letters first.")] = False,
) -> None:
    """Send the outbox, with the trainings recorded during an outage, to MLflow."""
    from vigie.cli.replaced import ServingHere
    from vigie.state import require_writable
    from vigie.tracking.sync import SENT, SENT_BY_ANOTHER

    service = enabled_mlflow()
    require_writable(service.settings.state_dir)
    outbox = service.outbox
    entries = outbox.waiting() + (outbox.dead_letters() if again else [])
    if dry_run or not entries:
        out.print(f"The outbox in {outbox.folder}: {outbox.summary()}.", highlight=False)
        for entry in entries:
            try:
                name = entry.record().what
            except (OutboxError, OSError) as error:
                name = f"[red]cannot be sent:[/] {escape(str(error))}"
            written = datetime.fromtimestamp(time.time() - entry.age_s, UTC)
            out.print(f"{written:%Y-%m-%d %H:%M:%S} UTC  {name}", highlight=False)
        return
    outcomes: list[str] = []
    with progress_bar("sending") as progress:

        def on_entry(entry: Entry, outcome: str) -> None:
            outcomes.append(outcome)
            progress(f"{len(outcomes)} of {len(entries)}", len(outcomes) / len(entries))

        service.sync(on_entry, again=again)
    # A stage that was asked for may be set now; the next command here may have no MLflow to ask.
    ServingHere(service)
    left = [outcome for outcome in outcomes if outcome not in (SENT, SENT_BY_ANOTHER)]
    by_another = outcomes.count(SENT_BY_ANOTHER)
    sent = f"{outcomes.count(SENT)} sent, {f'{by_another} by another process, ' * (by_another > 0)}"
    out.print(f"{sent}{len(left)} left.", highlight=False)
    for outcome in left:
        err.print(f"[red]Not sent:[/] {escape(outcome)}", soft_wrap=True)
    if left:
        raise typer.Exit(1)

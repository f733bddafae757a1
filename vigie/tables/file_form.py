"""What the file that a model was trained on says of its values, and others may leave open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileForm:
    """How a file writes its values.

    Attributes
    ----------
    day_first : bool or None
        Whether the day stands before the month in its dates; None if they leave no choice.
    units : mapping of str to str
        Units by column, where the file has them.
    """

    day_first: bool | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def shared(cls, forms: Iterable[FileForm]) -> FileForm:
        """Return what no two forms say otherwise."""
        forms = list(forms)
        days = {form.day_first for form in forms} - {None}
        said: dict[str, set[str]] = {}
        for form in forms:
            for name, unit in form.units.items():
                said.setdefault(name, set()).add(unit)
        units = {name: next(iter(of)) for name, of in said.items() if len(of) == 1}
        return cls(days.pop() if len(days) == 1 else None, units)

    def of(self, names: Iterable[str]) -> FileForm:
        """Return the form with the units of some columns."""
        return FileForm(self.day_first, {n: self.units[n] for n in names if n in self.units})

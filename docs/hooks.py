"""The reference pages, made from the code each time the site is built.

``mkdocs.yml`` names this file under ``hooks``; MkDocs calls ``on_files``. REST comes from the
OpenAPI document, the command line from its own help and the Python classes from their docstrings.
The page of the settings, from ``vigie/config.py``, is kept in the repository, since one looks them
up without a build; ``python docs/hooks.py`` writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SETTINGS = Path(__file__).parent / "reference" / "settings.md"
GROUPS = {
    "mlflow_tracking_uri": "MLflow",
    "contamination": "Scores and alarms",
    "n_estimators": "Hyper-parameters",
    "faulty_values": "Service",
    "alarms": "Events and alarms",
    "host": "Address and limits",
}
"""The heading that stands before a setting."""
SOURCES = """\
Vigie takes each setting from the first of these that has it:

1. an option of the command, or an argument in code;
2. the environment variable;
3. the variable in a file `.env` in the working directory;
4. the configuration file: `vigie.toml` in the working directory, or the file that the variable
   `VIGIE_CONFIG` names;
5. the default.

The configuration file is [TOML](https://toml.io), with the names below in lower case and without
`VIGIE_`:

```text
# vigie.toml
mlflow_tracking_uri = "http://mlflow.example:5000"
port = 8085
false_alarms_per_month = 1
allowed_hosts = ["vigie.example"]

[sensor_ranges]
temperature = [-40, 150]
rms = [0, inf]
```

A value that cannot be used stops the start with its name and the reason. A name in the
configuration file that is no setting stops it too, with its line; a variable `VIGIE_...` that is
none is named, and ignored. Relative paths start from the working directory. A file with secrets,
such as `api_key`, should be readable by its owner alone.

`vigie config show` prints every setting with its value and where that comes from; `--json` for
programs. It masks keys, and passwords in addresses. Processes that Vigie starts, also those of
`vigie up`, take the same settings."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages to those in the folder."""
    for name, page in (
        ("rest", rest()),
        ("command-line", command_line()),
        ("python", python()),
    ):
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def settings() -> str:
    """Return the page of the settings, from ``Settings`` and its docstrings."""
    from vigie.config import Settings

    described = griffe.load("vigie.config")["Settings"].members
    defaults = Settings.model_construct()
    lines = [
        "# Settings",
        "",
        *SOURCES.splitlines(),
    ]
    for name in Settings.model_fields:
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}"]
        docstring = described[name].docstring
        if docstring is None:
            raise ValueError(f"Settings.{name} needs a docstring: the reference shows it.")
        lines += [
            "",
            f"### `{Settings.variable(name)}`",
            "",
            f"Default: {default(getattr(defaults, name))}",
            "",
            docstring.value,
        ]
    return "\n".join(lines) + "\n"


def default(value: Any) -> str:
    """Return a default as it is written in the environment."""
    from vigie.config import written

    return "not set" if value in (None, "", ()) else f"`{written(value)}`"


def command_line() -> str:
    """Return the page of the commands, from their own help."""
    import typer
    from typer.cli import get_docs_for_click

    from vigie.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="vigie")
    # The headings list the commands; Typer's list of them is cut off.
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", text)
    return text.replace("# `vigie`", "# Command line", 1)


def python() -> str:
    """Return the page of the public names; mkdocstrings puts their docstrings in."""
    import vigie

    names = [name for name in vigie.__all__ if name != "samples"]
    kinds: dict[str, list[str]] = {"Services": [], "Readings and results": [], "Errors": []}
    for name in names:
        if name.endswith("Error"):
            kinds["Errors"].append(name)
        elif name.endswith("Service"):
            kinds["Services"].append(name)
        elif name != "Settings":
            kinds["Readings and results"].append(name)
    lines = [
        "# Python",
        "",
        "Unless it says otherwise, names of this page are imported from `vigie`:",
        "",
        "```text",
        "from vigie import IsolationForestService, MLflowService",
        "```",
        "",
        "`Settings` has a [page of its own](settings.md).",
    ]
    for kind, members in kinds.items():
        lines += ["", f"## {kind}"]
        for name in members:
            module = getattr(vigie, name).__module__
            lines += ["", f"::: {module}.{name}", "    options:", "      heading_level: 3"]
    lines += ["", "## Clients of a service", "", "These are imported from `vigie.client`."]
    for module, name in (("synchronous", "Client"), ("asynchronous", "AsyncClient")):
        lines += ["", f"::: vigie.client.{module}.{name}", "    options:", "      heading_level: 3"]
    return "\n".join([*lines, "", "## Sample recordings", "", "::: vigie.samples", ""])


def rest() -> str:
    """Return the page of the HTTP API, from its OpenAPI document."""
    from vigie.main import create_app

    document = create_app().openapi()
    lines = [
        "# REST API",
        "",
        "The service describes itself: `/docs` has a form to try each request, `/openapi.json` the",
        "document that this page is made from. Bodies are JSON in UTF-8. Errors are problem",
        "documents (RFC 9457) with `detail`, `field` where there is one, and `remedy`.",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", operation.get("description", "")]
            lines += [*parameters(operation), *body(operation), *responses(operation)]
    lines += ["", "## Objects"]
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"### {name}", "", first_paragraph(schema.get("description", ""))]
        lines += fields(schema)
        for example in schema.get("examples", ()):
            lines += ["", "Example:", "", "```json", json.dumps(example, indent=2), "```"]
    return "\n".join(lines) + "\n"


def parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the parameters of a request."""
    listed = operation.get("parameters", ())
    if listed:
        yield from ("", "| parameter | type | |", "|---|---|---|")
    for parameter in listed:
        text = cell(parameter.get("description", ""))
        yield f"| `{parameter['name']}` | {kind(parameter['schema'])} | {text} |"


def body(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a request's body is."""
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield from ("", f"Body (`{media}`): {kind(content.get('schema', {}))}")


def responses(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the answers to a request."""
    yield from ("", "| status | means | body |", "|---|---|---|")
    for status, response in sorted(operation["responses"].items()):
        [content, *_] = response.get("content", {}).values() or [{}]
        yield f"| {status} | {response['description']} | {kind(content.get('schema', {}))} |"


def fields(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the fields of an object, or the values of an enumeration."""
    if "enum" in schema:
        yield from ("", "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
    if "properties" not in schema:
        return
    yield from ("", "| field | type | |", "|---|---|---|")
    for name, field in schema["properties"].items():
        required = " (required)" if name in schema.get("required", ()) else ""
        text = cell(field.get("description", ""))
        yield f"| `{name}` | {kind(field)}{required} | {text} |"


def kind(schema: Mapping[str, Any]) -> str:
    """Return the type of a value in words, with links to objects."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(choice) for choice in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and schema.get("additionalProperties"):
        values = schema["additionalProperties"]
        return f"object of {kind(values)}" if isinstance(values, dict) else "object"
    return str(schema.get("type", "any value"))


def cell(text: str) -> str:
    """Return text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def first_paragraph(text: str) -> str:
    """Return the summary of a docstring."""
    return text.partition("\n\n")[0]


if __name__ == "__main__":
    SETTINGS.write_text(settings(), encoding="utf-8")

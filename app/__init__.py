"""The guide's import paths, ``app.services...``: every module hands on objects of ``vigie``.

New code imports from ``vigie``. This folder belongs to the checkout and the container image. The
wheel leaves it out, because a project that installs Vigie may have an ``app`` of its own.
"""

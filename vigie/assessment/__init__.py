"""Assess the next rows of an asset from what came before: one engine for every road.

A reading, a batch, a file and a stream of the same rows give the same assessment, because all of
them run ``vigie.assessment.engine``. It is pure: models, what is looked back on, and rows go in;
an assessment and what the next rows look back on come out.
"""

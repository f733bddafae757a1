"""Assess the next rows of an asset, given its recent past.

A reading, a batch, a file and a stream of the same rows get the same assessment, because all of
them run ``vigie.assessment.engine``. The engine is pure: it takes models, a look-back and rows,
and returns an assessment and the next look-back.
"""

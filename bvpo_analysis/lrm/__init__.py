"""Reasoning models: loading, reasoning formats, trace sampling, and the LRM in the box."""

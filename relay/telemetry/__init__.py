"""Telling the operator what happened: logs."""
